"""How rounds over all pools are spread in time. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from .store import Key

SLICE = 100
"""Pools that are served together: a few hundredths of a second of work, after which changed pools have their turn."""
SHARE = 0.4
"""The part of one core that rounds may take before they become longer than a tick."""
LONGEST = 4.5
"""Seconds: beyond this a round takes as much of the core as it needs."""
_REMEMBERED = 3


@dataclass(slots=True)
class Pace:
    """How long a round takes: a tick, or more where rounds cost so much. ``tick`` is seconds."""

    tick: float
    _costs: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def ended(self, cost: float) -> None:
        """A round has cost so many CPU seconds."""
        self._costs.append(cost)

    @property
    def period(self) -> float:
        """Seconds of the next round.

        The cheapest of the last rounds counts: a burst of work is no reason to look less often, a lasting one is.
        """
        cheapest = min(self._costs, default=0.0)
        return max(self.tick, min(LONGEST, cheapest / SHARE))


def slices(keys: Sequence[Key]) -> list[Sequence[Key]]:
    """All keys in parts of nearly the same size, each at most :data:`SLICE`; one empty part of none."""
    parts = max(1, -(-len(keys) // SLICE))
    bounds = [len(keys) * part // parts for part in range(parts + 1)]
    return [keys[start:end] for start, end in pairwise(bounds)]
