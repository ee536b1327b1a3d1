"""One pool in a line, from this process' own turn or, where it has none, from the pool's object. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmpool_contract import WorkerReport
from llmpool_contract.pool import LLMWorkerPoolSpec
from llmpool_operator.decide.types import Missing
from llmpool_operator.gpu import GPU
from llmpool_operator.kube import Object
from llmpool_operator.observe import Endpoint
from llmpool_operator.store import Key
from llmpool_operator.targets.base import Sighting, Size, Turn

from .past import backlog, why
from .schema import Reading, Ready, Row, missing, reading, text

UNREAD = Missing("not read yet")
_LEADER_ONLY = "only the leader reads it"


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a pool."""

    obj: Object
    turn: Turn | None = None
    """The last one. None: this process has taken none."""
    spec: LLMWorkerPoolSpec | None = None
    """None: it can't be read, or nobody has tried."""
    endpoint: Endpoint | None = None
    """Its Redis, where that is known."""

    @property
    def queues(self) -> tuple[str, ...]:
        """By their names."""
        if self.spec is not None:
            return tuple(queue.name for queue in self.spec.queues)
        return tuple(str(queue.get("name")) for queue in self.obj["spec"].get("queues") or ())


@dataclass(frozen=True, slots=True)
class Counts:
    """What is counted for the page alone, and only while somebody looks."""

    delayed: int | Missing = UNREAD
    dead: int | Missing = UNREAD


def row_of(key: Key, seen: Seen, counts: Counts) -> Row:
    """A pool's line."""
    spec, status = seen.obj["spec"], seen.obj.get("status") or {}
    known = _from_status(status) if seen.turn is None else _from_turn(seen.turn)
    return {
        "namespace": key[0],
        "name": key[1],
        "ready": _ready(status),
        "mode": str(spec.get("mode") or "Active"),
        "paused": str(spec.get("paused") or "None"),
        "delayed": reading(counts.delayed),
        "dead": reading(counts.dead),
        **known,  # type: ignore[typeddict-item]  # the other fields, which two functions agree on (a test says so)
    }


def _from_turn(turn: Turn) -> dict[str, Any]:
    reason, message, trouble = why(turn)
    workers, gpu = turn.sighting.workers, turn.sighting.gpu
    return {
        **_sizes(turn),
        "busy": reading(workers if isinstance(workers, Missing) else workers.busy),
        "queued": backlog(turn, "ready", "due"),
        "inFlight": backlog(turn, "in_flight"),
        "gpuPercent": _percent(gpu),
        "tokensPerSecond": tokens_per_second(turn.sighting),
        "reason": reason,
        "message": message,
        "trouble": trouble,
        "source": "turn",
    }


def _sizes(turn: Turn) -> dict[str, Reading]:
    size = turn.size
    if not isinstance(size, Size):
        return dict.fromkeys(("size", "readyWorkers", "desired", "draining"), missing(size.reason))
    sized = turn.decision is not None and (turn.failure is None or turn.failure.sized)
    return {
        "size": size.existing,
        "readyWorkers": size.ready,
        "desired": turn.decision.replicas if sized and turn.decision is not None else size.intended,
        "draining": turn.draining,
    }


def _percent(gpu: GPU | Missing) -> Reading:
    if isinstance(gpu, Missing):
        return missing(gpu.reason)
    return reading(None if gpu.utilization is None else round(gpu.utilization * 100))


def tokens_per_second(sighting: Sighting) -> Reading:
    """Of all workers that tell it."""
    reports: Mapping[str, WorkerReport] | Missing = sighting.reports
    if isinstance(reports, Missing):
        return missing(reports.reason)
    told = [of.tokens_per_second for of in reports.values() if of.tokens_per_second is not None]
    return round(math.fsum(told), 1) if told else missing("no worker has told it")


def _from_status(status: Mapping[str, Any]) -> dict[str, Any]:
    decision = status.get("decision") or {}
    return {
        "size": _told(status, "replicas"),
        "readyWorkers": _told(status, "readyReplicas"),
        "desired": _told(status, "desiredReplicas"),
        "draining": _told(status, "draining"),
        "busy": _told(status, "busy"),
        "queued": _told(status, "queued"),
        "inFlight": _told(status, "inFlight"),
        "gpuPercent": _told(status.get("gpu") or {}, "utilization"),
        "tokensPerSecond": missing(_LEADER_ONLY),
        "reason": text(str(decision.get("reason") or "")),
        "message": text(str(decision.get("message") or "")),
        "trouble": False,
        "source": "status",
    }


def _told(status: Mapping[str, Any], name: str) -> Reading:
    value = status.get(name)
    return value if isinstance(value, int | float) else missing("the pool's status doesn't tell")


def _ready(status: Mapping[str, Any]) -> Ready:
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Ready":
            return {"status": str(condition.get("status")), "reason": text(str(condition.get("reason")))}
    return {"status": "Unknown", "reason": "NotToldYet"}
