"""Redis' clock, read between calls by our own monotonic one: deadlines are judged by it, never by this host's."""

from __future__ import annotations

import time


class RedisClock:
    """Unix ms by Redis' TIME, as of the last reply that carried it plus what has passed since."""

    def __init__(self) -> None:
        self._at_ms: int | None = None
        self._at = 0.0

    def heard(self, now_ms: int) -> None:
        """A reply said it is ``now_ms``."""
        self._at_ms, self._at = now_ms, time.monotonic()

    def now_ms(self) -> int:
        """Never asked before the first claim, which sets it."""
        if self._at_ms is None:
            raise RuntimeError("Redis' time was asked for before any reply gave it")
        return self._at_ms + int((time.monotonic() - self._at) * 1_000)

    @property
    def known(self) -> bool:
        """Whether any reply has set it yet."""
        return self._at_ms is not None
