"""What the engine needs of the thing it sizes: a Deployment, child processes, a simulation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from llmpool_operator.decide.types import Decision, Missing, Observation


class TargetError(Exception):
    """A target could not do what was asked. The engine tells it and tries again on the next turn.

    ``reason`` is one CamelCase word for conditions, events and metrics (``DeploymentNotOurs``, ``Forbidden``);
    ``message`` says what to do about it. Neither carries a secret. ``sized``: the size is as it was asked for, what
    failed is something else.
    """

    def __init__(self, reason: str, message: str, *, sized: bool = False) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.sized = sized


@dataclass(frozen=True, slots=True)
class Size:
    """How many workers a target has, at one moment. Counts, never negative."""

    intended: int
    """Workers asked for: what the last resize said, or what somebody set by hand since."""
    existing: int
    """Workers that are there, ready or not."""
    ready: int
    """Workers that take jobs."""


@dataclass(frozen=True, slots=True)
class Workers:
    """What the fresh reports of a pool's workers add up to."""

    reporting: int
    busy: int
    """Workers with at least one job in flight."""
    in_flight: int
    """Jobs in flight, all workers together."""
    capacity: int


@dataclass(frozen=True, slots=True)
class Sighting:
    """One reading of everything that Redis says about a pool."""

    observation: Observation
    workers: Workers | Missing


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the engine for one pool, as data: what was seen, decided and done."""

    at: float
    """Unix seconds."""
    size: Size | Missing
    """Before the turn acted."""
    sighting: Sighting
    decision: Decision | None
    """None: the size is unknown, so nothing was decided."""
    found: tuple[int, int] | None = None
    """(expected, found), when somebody else changed the intended size since the last turn."""
    resized: tuple[int, int] | None = None
    """(from, to), when this turn changed the intended size."""
    failure: TargetError | None = None
    """Why the target could not be read or resized, or what else it could not do (``sized``)."""


class Target(Protocol):
    """One pool's workers. All methods may raise :class:`TargetError`; a slow one holds up its own pool alone."""

    async def size(self) -> Size | Missing:
        """How many there are. Missing: not known now, so the engine leaves them alone."""

    async def resize(self, replicas: int) -> None:
        """Ask for this many workers (absolute, so that a repeat is harmless). Called each turn: no change, no work."""

    async def report(self, turn: Turn) -> None:
        """Tell the pool's owner what happened: a status, a line on the terminal. Called at the end of each turn."""
