"""One look at everything, as data. Pure: :mod:`.gather` reads, :mod:`.tables` shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from llmpool_cli.cluster import ready_of
from llmpool_client import PoolWorkers, QueueState
from llmpool_contract import WorkerReport
from llmpool_operator.explain.times import seconds_of
from llmpool_operator.kube import Object


@dataclass(frozen=True, slots=True)
class PoolRow:
    """A pool as its status tells it. None: not known."""

    namespace: str
    name: str
    ready: bool | None
    """None: its operator hasn't said."""
    reason: str | None
    """The reason of that, one word."""
    replicas: int | None
    desired: int | None
    busy: int | None
    queued: int | None
    gpu_percent: int | None
    queues: tuple[str, ...]
    decision: str | None
    """The reason of the last decision that changed something, and its words."""
    decided_at: float | None
    """Unix seconds."""

    @property
    def pool(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model over all workers that report it."""

    name: str
    resident: int
    """Workers in whose server's memory it is."""
    ready: int
    """Workers on whose preload list it is ready."""
    wanted: int
    """Workers on whose preload list it is."""
    error: str | None


@dataclass(frozen=True, slots=True)
class Frame:
    """What was seen at one moment. A part that could not be seen is None, and ``missing`` says why."""

    at: float
    """Unix seconds."""
    pools: tuple[PoolRow, ...] | None
    queues: tuple[QueueState, ...] | None
    workers: tuple[PoolWorkers, ...] | None
    missing: tuple[str, ...]

    @property
    def reports(self) -> list[WorkerReport]:
        """All fresh reports."""
        return [report for pool in self.workers or () for report in pool.fresh]

    @property
    def tokens_per_second(self) -> float | None:
        """Of all workers together; None where none tells."""
        told = [report.tokens_per_second for report in self.reports if report.tokens_per_second is not None]
        return sum(told) if told else None

    @property
    def models(self) -> list[ModelRow]:
        """What is in memory or should be, the most widespread first."""
        return models(self.reports)


def pool_row(pool: Object) -> PoolRow:
    """A pool's object as a row."""
    metadata, status = pool["metadata"], pool.get("status") or {}
    ready = ready_of(pool)
    decision = status.get("decision") or {}
    words = [decision.get("reason"), decision.get("message") or status.get("message")]
    return PoolRow(
        namespace=metadata["namespace"],
        name=metadata["name"],
        ready={"True": True, "False": False}.get(str(ready.get("status"))),
        reason=ready.get("reason") or ready.get("status"),
        replicas=status.get("replicas"),
        desired=status.get("desiredReplicas"),
        busy=status.get("busy"),
        queued=status.get("queued"),
        gpu_percent=(status.get("gpu") or {}).get("utilization"),
        queues=tuple(queue["name"] for queue in (pool.get("spec") or {}).get("queues") or ()),
        decision=": ".join(word for word in words if word) or None,
        decided_at=seconds_of(decision.get("at")),
    )


def models(reports: Iterable[WorkerReport]) -> list[ModelRow]:
    """Models over workers: where each is in memory, and where it should be."""
    resident: dict[str, int] = defaultdict(int)
    ready: dict[str, int] = defaultdict(int)
    wanted: dict[str, int] = defaultdict(int)
    errors: dict[str, str] = {}
    for report in reports:
        for name in report.resident_models or ():
            resident[name] += 1
        for model in report.models or ():
            wanted[model.name] += 1
            ready[model.name] += model.state == "ready"
            if model.error:
                errors[model.name] = model.error
    rows = [
        ModelRow(name, resident[name], ready[name], wanted[name], errors.get(name)) for name in {*resident, *wanted}
    ]
    return sorted(rows, key=lambda row: (-row.resident, -row.wanted, row.name))
