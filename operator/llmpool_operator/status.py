"""A pool's status as plain data, and whether it is worth a write. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from .conditions import MAX_MESSAGE, merge, timestamp
from .decide import worth_writing
from .decide.types import Finding, Missing, QueueBacklog
from .deployment import selector
from .targets.base import Size, TargetError, Turn

Status: TypeAlias = dict[str, Any]
COUNTERS_EVERY = 5.0
"""Seconds between writes that only carry new counts: they change all the time, and watchers are told each write."""
_COUNTERS = frozenset({"queued", "inFlight", "busy", "message", "history", "conditions"})
_BY_BACKLOG = {"AbleToScale": {"True"}, "ScalingLimited": {"True", "False"}}
"""Conditions that come and go with the backlog while they have these statuses: they are written as counts are."""


def build(
    previous: Status, turn: Turn, *, name: str, generation: int, paused: str | None, history: dict[str, Any]
) -> Status:
    """The whole status after a turn. What is not known is left out, but sizes stay as they were last known."""
    status: Status = {
        **{key: previous[key] for key in ("replicas", "readyReplicas", "desiredReplicas") if key in previous},
        "observedGeneration": generation,
        "selector": selector(name),
        "conditions": merge(
            previous.get("conditions") or [], _findings(turn, paused), at=turn.at, generation=generation
        ),
        "history": history,
        **({} if turn.decision is None else {"message": turn.decision.message[:MAX_MESSAGE]}),
        **_sizes(turn),
        **_counts(turn),
    }
    if turn.resized is not None:
        status["lastScaleTime"] = timestamp(turn.at)
    elif "lastScaleTime" in previous:
        status["lastScaleTime"] = previous["lastScaleTime"]
    return status


def is_due(written: Status, wanted: Status, *, since: float) -> bool:
    """Whether to write: at once for what matters, every few seconds for counts. ``since``: seconds since the last."""
    if _substance(written) != _substance(wanted):
        return True
    return since >= COUNTERS_EVERY and (
        _shown(written) != _shown(wanted) or worth_writing(written.get("history"), wanted["history"])
    )


def as_patch(written: Status, wanted: Status) -> Status:
    """A JSON merge patch from one to the other: what changed, and null for what went."""
    gone: Status = dict.fromkeys(written.keys() - wanted.keys())
    changed = {key: value for key, value in wanted.items() if written.get(key) != value}
    if "history" in changed:
        # A merge patch merges objects too: what the new history no longer has must go.
        changed["history"] = {**dict.fromkeys(written.get("history") or {}), **wanted["history"]}
    return {**gone, **changed}


def _findings(turn: Turn, paused: str | None) -> Iterable[Finding]:
    yield _ready(turn)
    if turn.decision is not None:
        yield from turn.decision.conditions
    if turn.failure is not None:
        yield from _failed(turn.failure, decided=turn.decision is not None)
    if paused is not None:
        text = f"spec.paused is {paused}"
        is_paused = paused != "None"
        yield Finding("Paused", "True" if is_paused else "False", f"Paused{paused}" if is_paused else "NotPaused", text)


def _failed(failure: TargetError, *, decided: bool) -> Iterable[Finding]:
    if not decided:  # nothing of what an earlier turn found holds
        yield Finding("ScalingActive", "False", failure.reason, failure.message)
        yield Finding("MetricsAvailable", "Unknown", failure.reason, "not looked at")
    if not failure.sized:
        yield Finding("AbleToScale", "False", failure.reason, failure.message)


def _ready(turn: Turn) -> Finding:
    if turn.failure is not None:
        return Finding("Ready", "False", turn.failure.reason, turn.failure.message)
    if isinstance(turn.size, Missing):
        return Finding("Ready", "Unknown", turn.size.reason, "the number of workers is not known")
    wanted = turn.size.intended if turn.decision is None else turn.decision.replicas
    told = f"{turn.size.ready} of {wanted} workers are ready"
    if wanted == 0:
        return Finding("Ready", "True", "ScaledToZero", "no workers are asked for")
    if turn.size.ready == 0:
        return Finding("Ready", "False", "NoWorkerReady", told)
    return Finding("Ready", "True", "WorkersReady" if turn.size.ready >= wanted else "WorkersStarting", told)


def _sizes(turn: Turn) -> Status:
    if not isinstance(turn.size, Size):
        return {}
    sized = turn.failure is None or turn.failure.sized
    desired = turn.decision.replicas if turn.decision is not None and sized else turn.size.intended
    return {"replicas": turn.size.existing, "readyReplicas": turn.size.ready, "desiredReplicas": desired}


def _counts(turn: Turn) -> Status:
    queues = turn.sighting.observation.queues
    known = [backlog for backlog in queues.values() if isinstance(backlog, QueueBacklog)]
    counts: Status = {}
    if queues and len(known) == len(queues):  # a sum over some of them would pass for the whole
        counts["queued"] = sum(backlog.ready + backlog.due for backlog in known)
        counts["inFlight"] = sum(backlog.in_flight for backlog in known)
    if not isinstance(turn.sighting.workers, Missing):
        counts["busy"] = turn.sighting.workers.busy
    return counts


def _substance(status: Mapping[str, Any]) -> dict[str, Any]:
    conditions = [
        (c["type"], c["status"], c["reason"])
        for c in status.get("conditions") or ()
        if c["status"] not in _BY_BACKLOG.get(c["type"], ())
    ]
    return {"conditions": conditions, **{key: value for key, value in status.items() if key not in _COUNTERS}}


def _shown(status: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in status.items() if key != "history"}
