"""All about one pool: conditions, queues, workers, the decisions so far, dead letters. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from llmpool_contract import WorkerReport
from llmpool_contract.config import PoolConfig
from llmpool_operator import status_parts
from llmpool_operator.conditions import merge
from llmpool_operator.decide.types import Missing, QueueBacklog
from llmpool_operator.explain import findings
from llmpool_operator.models import model_states
from llmpool_operator.store import Key
from llmpool_operator.targets.base import Sighting, Turn

from .rows import UNREAD, Counts, Seen
from .schema import (
    MAX_NAME,
    DecisionRow,
    Detail,
    GPURow,
    MissingReading,
    Part,
    QueueLetters,
    QueueRow,
    WorkerRow,
    Workers,
    missing,
    reading,
    text,
)

MOST_WORKERS = 200
"""Rows; a pool may have thousands of workers."""
_MOST_MODELS = 16
_TOLD = ("message", "decision", "metrics", "bounds", "draining", "waits", "gpu", "models", "lastScaleTime")
_LEADER_ONLY = Missing("only the leader reads it")


def detail_of(
    key: Key,
    seen: Seen,
    *,
    counts: Mapping[str, Counts],
    letters: list[QueueLetters],
    decisions: list[DecisionRow],
) -> Detail:
    """The whole of one pool. ``counts`` by queue."""
    turn = seen.turn
    return {
        "namespace": key[0],
        "name": key[1],
        "at": None if turn is None else turn.at,
        "status": _status(seen),
        "conditions": _conditions(seen),
        "queues": [_queue(name, turn, counts.get(name, Counts())) for name in seen.queues],
        "workers": _workers(_LEADER_ONLY if turn is None else turn.sighting.reports, turn),
        "decisions": decisions,
        "letters": letters,
    }


def _status(seen: Seen) -> Part:
    """As a status has it, but of this moment where this process decides the pool."""
    told, turn, spec = seen.obj.get("status") or {}, seen.turn, seen.spec
    if turn is None:
        return {name: told[name] for name in _TOLD if name in told}
    reports = turn.sighting.reports
    models = None if spec is None or isinstance(reports, Missing) else model_states(spec.models.preload, reports)
    return {
        **({} if turn.decision is None else status_parts.reasons(turn.decision, spec, at=turn.at)),
        **status_parts.waiting(turn),
        **status_parts.gpu(turn.sighting.gpu),
        **status_parts.preloaded(models),
        **{name: told[name] for name in ("lastScaleTime",) if name in told},
    }


def _conditions(seen: Seen) -> list[Part]:
    told = (seen.obj.get("status") or {}).get("conditions") or []
    if seen.turn is None:
        return list(told)
    return merge(told, findings(seen.turn, seen.spec), at=seen.turn.at, generation=None)


def _queue(name: str, turn: Turn | None, counts: Counts) -> QueueRow:
    found = _LEADER_ONLY if turn is None else turn.sighting.observation.queues.get(name, UNREAD)
    shown = text(name, MAX_NAME)
    own = {"delayed": reading(counts.delayed), "dead": reading(counts.dead)}
    if isinstance(found, QueueBacklog):
        known = {"ready": found.ready, "due": found.due, "inFlight": found.in_flight}
    else:
        known = dict.fromkeys(("ready", "due", "inFlight"), missing(found.reason))  # type: ignore[arg-type]
    return {"name": shown, **known, **own}  # type: ignore[typeddict-item]


def _workers(reports: Mapping[str, WorkerReport] | Missing, turn: Turn | None) -> Workers | MissingReading:
    if isinstance(reports, Missing):
        return missing(reports.reason)
    leaving = _leaving(turn.sighting) if turn is not None else frozenset()
    first = sorted(reports)[:MOST_WORKERS]
    return {"total": len(reports), "rows": [_worker(reports[name], leaving) for name in first]}


def _leaving(sighting: Sighting) -> frozenset[str]:
    return frozenset(sighting.config.drains) if isinstance(sighting.config, PoolConfig) else frozenset()


def _worker(report: WorkerReport, leaving: frozenset[str]) -> WorkerRow:
    models = report.resident_models
    return {
        "worker": text(report.worker, MAX_NAME),
        "state": str(report.state),
        "leaving": report.worker in leaving,
        "inFlight": report.in_flight,
        "capacity": report.capacity,
        "done": report.done,
        "jobsPerSecond": reading(report.jobs_per_second, "it hasn't told"),
        "tokensPerSecond": reading(report.tokens_per_second, "it hasn't told"),
        "models": missing("its server doesn't tell")
        if models is None
        else [text(model, MAX_NAME) for model in models[:_MOST_MODELS]],
        "gpus": _gpus(report),
    }


def _gpus(report: WorkerReport) -> list[GPURow] | MissingReading:
    if report.gpus is None:
        return missing("it sees no GPU")
    return [
        {
            "name": text(gpu.name, MAX_NAME),
            "percent": reading(None if gpu.utilization is None else round(gpu.utilization * 100)),
            "memoryUsedBytes": reading(gpu.memory_used_bytes),
            "memoryTotalBytes": reading(gpu.memory_total_bytes),
        }
        for gpu in report.gpus[:_MOST_MODELS]
    ]
