"""What the engine needs of the thing it sizes: a Deployment, child processes, a simulation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from llmpool_contract import WorkerReport
from llmpool_contract.config import PoolConfig
from llmpool_operator.decide.types import Decision, Missing, Observation, PodReading
from llmpool_operator.gpu import GPU, GPUSample

NOT_READ = Missing("not read")


class TargetError(Exception):
    """A target could not do what was asked. The engine tells it and tries again on the next turn.

    ``reason`` is one CamelCase word for conditions, events and metrics; ``message`` says what to do about it. Neither
    carries a secret. ``sized``: the size is as it was asked for, what failed is something else.

    The reasons of a Deployment: ``DeploymentNotOurs``, ``PoolNameTaken`` (its Redis belongs to another pool of the
    name), ``ScaledByAnother`` (another autoscaler is at work), ``NotLeader`` (a later operator has taken over),
    ``ConfigNotWritten`` (the workers can't be told: no drains, no preload), and the API server's: ``APIUnreachable``,
    ``Forbidden``, ``Gone``, ``Conflict``, ``Refused``, ``APIBusy``, ``APIFailing``. Of local processes:
    ``WorkerNotStarted``.
    """

    def __init__(self, reason: str, message: str, *, sized: bool = False) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.sized = sized


@dataclass(frozen=True, slots=True)
class Found:
    """A size that somebody else has set."""

    before: int
    after: int
    by: str
    """The field manager, as far as it is told."""


@dataclass(frozen=True, slots=True)
class Size:
    """How many workers a target has, at one moment. Counts, never negative."""

    intended: int
    """Workers that are to stay: what is asked for, less those that drain in order to go."""
    existing: int
    """Workers that are there, ready or not."""
    ready: int
    """Workers that take jobs."""
    found: Found | None = None
    """What somebody else has changed since the last look."""
    unschedulable: int = 0
    """Pods that no node takes."""
    pods: tuple[PodReading, ...] | Missing = NOT_READ
    """For metrics of single pods; read only where the pool has one. NOT_READ: then ``ready`` is what is counted; any
    other Missing says that nobody knows who is ready."""


@dataclass(frozen=True, slots=True)
class Resized:
    """What a resize has come to."""

    intended: int
    """The intended size after it: the one that was asked for, or as near to it as can be had now."""
    draining: int = 0
    """Workers that drain in order to go."""
    waits: tuple[str, ...] = ()
    """What the rest waits for, a sentence each."""
    failure: TargetError | None = None
    """What failed beside the size."""
    given_up: int = 0
    """Workers that were let go with their time to drain over: what they still ran goes back to the queue."""


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
    """One reading of everything that Redis says about a pool, and of what others tell beside it."""

    observation: Observation
    workers: Workers | Missing
    reports: Mapping[str, WorkerReport] | Missing = NOT_READ
    """The fresh reports by worker; a worker that isn't among them is unknown, not idle."""
    config: PoolConfig | Missing = NOT_READ
    """What the workers are told now: drains in progress, also those that an earlier process began, and preload."""
    redis_ms: int | None = None
    """The moment of the reading by Redis' own clock, Unix ms: what ``config.drains`` are measured by."""
    gpu: GPU | Missing = NOT_READ
    gpu_by_pod: Mapping[str, GPUSample] = field(default_factory=dict)
    """The pods that have GPUs of their own: none where the workers share a model server."""

    def gpu_sample(self, pod: str) -> GPUSample | None:
        """A pod's GPUs: its own, or those of the server that it shares with the others."""
        if isinstance(self.gpu, GPU) and self.gpu.shared:
            return None if self.gpu.utilization is None else (100 * self.gpu.utilization, self.gpu.at)
        return self.gpu_by_pod.get(pod)


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
    """(expected, found), when somebody else changed the size since the last turn."""
    found_by: str = ""
    """Who did, as far as it is told."""
    resized: tuple[int, int] | None = None
    """(from, to), when this turn changed the intended size."""
    failure: TargetError | None = None
    """Why the target could not be read or resized, or what else it could not do (``sized``)."""
    draining: int = 0
    """Workers that drain in order to go, after the turn."""
    waits: tuple[str, ...] = ()
    """What the operator waits for, a sentence each."""
    given_up: int = 0
    """Drains that this turn gave up: their time was over."""


class Target(Protocol):
    """One pool's workers. All methods may raise :class:`TargetError`; a slow one holds up its own pool alone."""

    async def size(self, sighting: Sighting, now: float) -> Size | Missing:
        """How many there are; the turn's sighting is for those that choose by it. ``now`` is Unix seconds.

        Missing: not known now, so the engine leaves them alone.
        """

    async def resize(self, replicas: int) -> Resized:
        """Bring the workers nearer to this many (absolute, so that a repeat is harmless), by what ``size`` saw.

        Called each turn: no change, no work. Raises only where the intended size is what it was.
        """

    async def report(self, turn: Turn) -> None:
        """Tell the pool's owner what happened: a status, a line on the terminal. Called at the end of each turn."""
