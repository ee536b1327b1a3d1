"""Labels that can't grow without bound. Pure."""

from __future__ import annotations

from collections.abc import Iterable

MOST_MODELS = 50
MOST_RULES = 100
OTHER = "other"
NAN = float("nan")
"""Not known: what a gauge without labels is set to before its first reading, since it would begin with 0."""


class KnownLabels:
    """Values that are known to be few are told as they are, all others as ``other``.

    What a job asks for is its client's choice: names that nobody vouches for would let a client push the real ones
    out, or make as many time series as it likes.
    """

    def __init__(self, known: Iterable[str] = (), most: int = MOST_MODELS) -> None:
        self._most = most
        self._known: set[str] = set()
        for value in known:
            self.know(value)

    def know(self, value: str) -> None:
        """It is real: configured, resident, or it has answered. Beyond ``most`` it is still ``other``."""
        if len(self._known) < self._most:
            self._known.add(value)

    def of(self, value: str) -> str:
        """The label's value."""
        return value if value in self._known else OTHER


class FirstLabels(KnownLabels):
    """The same for values that the code or a configuration makes: each is known once it is met."""

    def of(self, value: str) -> str:
        """The label's value."""
        self.know(value)
        return super().of(value)
