"""The last decisions of each pool, bounded: what the page shows of the time before somebody looked.

Fed with every turn, so a turn like the one before it must cost next to nothing.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

from llmpool_operator.decide.types import QueueBacklog
from llmpool_operator.store import Key
from llmpool_operator.targets.base import Size, Turn

from .schema import DecisionRow, Reading, missing, text

PER_POOL = 16
OF_ALL = 64
"""Decisions of all pools together; only those that changed a size, or failed."""


class Past:
    """What differed from the turn before it."""

    def __init__(self) -> None:
        self._pools: dict[Key, deque[DecisionRow]] = {}
        self._all: deque[DecisionRow] = deque(maxlen=OF_ALL)
        self._like: dict[Key, tuple[object, ...]] = {}
        self.count = 0
        """Rows that came to all pools' list so far, and pools that went: whether there is news."""

    def turn(self, key: Key, turn: Turn) -> None:
        """Take up a turn."""
        like = _like(turn)
        if turn.resized is None and self._like.get(key) == like:
            return
        self._like[key] = like
        row = decision_row(key, turn)
        self._pools.setdefault(key, deque(maxlen=PER_POOL)).append(row)
        if turn.resized is not None or turn.failure is not None:
            self._all.append(row)
            self.count += 1

    def forget(self, key: Key) -> None:
        """The pool is gone."""
        self._pools.pop(key, None)
        self._like.pop(key, None)
        kept = [row for row in self._all if (row["namespace"], row["name"]) != key]
        if len(kept) < len(self._all):
            self._all = deque(kept, OF_ALL)
            self.count += 1

    def of(self, key: Key) -> list[DecisionRow]:
        """One pool's, newest first."""
        return list(reversed(self._pools.get(key, ())))

    def newest(self, count: int = 30) -> list[DecisionRow]:
        """All pools', newest first."""
        return list(islice(reversed(self._all), count))


def decision_row(key: Key, turn: Turn) -> DecisionRow:
    """A turn as one line of the history."""
    decision, size = turn.decision, turn.size
    reason, message, trouble = why(turn)
    before = after = size.intended if isinstance(size, Size) else None
    if turn.resized is not None:
        before, after = turn.resized
    return {
        "namespace": key[0],
        "name": key[1],
        "at": turn.at,
        "before": before,
        "after": after,
        "desired": None if decision is None else decision.desired,
        "reason": reason,
        "message": message,
        "trouble": trouble,
        "queued": backlog(turn, "ready", "due"),
        "inFlight": backlog(turn, "in_flight"),
    }


def why(turn: Turn) -> tuple[str, str, bool]:
    """Reason, message, and whether it is a trouble: what failed comes before what was decided."""
    if turn.failure is not None:
        return turn.failure.reason, text(turn.failure.message), True
    if turn.decision is not None:
        return str(turn.decision.reason), text(turn.decision.message), turn.decision.hold
    return "SizeUnknown", "the size isn't known yet, so nothing was decided", False


def backlog(turn: Turn, *counts: str) -> Reading:
    """A sum over all queues, or why there is none: one over some of them would pass for the whole."""
    total = 0
    for name, of in turn.sighting.observation.queues.items():
        if not isinstance(of, QueueBacklog):
            return missing(f"{name}: {of.reason}")
        total += sum(getattr(of, count) for count in counts)
    return total if turn.sighting.observation.queues else missing("not read")


def _like(turn: Turn) -> tuple[object, ...]:
    """Turns with equal ones make one line."""
    if turn.failure is not None:
        return "failure", turn.failure.reason
    decision = turn.decision
    return () if decision is None else (decision.reason, decision.replicas, decision.hold)
