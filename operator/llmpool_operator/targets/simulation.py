"""Workers that exist only in virtual time. Nothing here waits, so a turn needs no event loop."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from llmpool_operator.engine import PoolEngine

from .base import Resized, Sighting, Size, Turn

T = TypeVar("T")


class Fleet(Protocol):
    """The simulated workers."""

    def size(self) -> Size:
        """How many there are now."""

    def resize(self, replicas: int) -> None:
        """Have so many: start what is missing, drain what is too many."""


class SimulationTarget:
    """A :class:`~llmpool_operator.targets.base.Target` whose methods never wait."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def size(self, _sighting: Sighting, _now: float) -> Size:
        """How many there are now."""
        return self._fleet.size()

    async def resize(self, replicas: int) -> Resized:
        """Ask for so many: they are asked for at once, whatever still drains."""
        self._fleet.resize(replicas)
        return Resized(replicas)

    async def report(self, turn: Turn) -> None:
        """Nobody is told: the turn is what the caller gets."""


def turn_at_once(engine: PoolEngine, sighting: Sighting, now: float) -> Turn:
    """One turn of an engine with a :class:`SimulationTarget`, without an event loop."""
    return _at_once(engine.turn(sighting, now))


def _at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that waits for nothing.

    Raises:
        RuntimeError: it waited after all.
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    coroutine.close()
    raise RuntimeError("a simulated turn waited for something")
