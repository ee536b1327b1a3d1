"""A pool's status as plain data, and whether it is worth a write. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from llmpool_contract.pool import LLMWorkerPoolSpec

from .conditions import merge, timestamp
from .decide import worth_writing
from .decide.types import Missing, QueueBacklog
from .deployment import selector
from .explain import findings
from .models import ModelState
from .status_parts import gpu, preloaded, reasons, waiting
from .targets.base import Size, Turn

Status: TypeAlias = dict[str, Any]
COUNTERS_EVERY = 5.0
"""Seconds between writes that only carry new counts: they change all the time, and watchers are told each write."""
_COUNTERS = frozenset(
    {"queued", "inFlight", "busy", "message", "history", "conditions", "decision", "metrics", "waits", "gpu", "models"}
)
_OBJECTS = frozenset({"history", "decision", "gpu", "bounds"})
_BY_BACKLOG = {"AbleToScale": {"True"}, "ScalingLimited": {"True", "False"}}
"""Conditions that come and go with the backlog while they have these statuses: they are written as counts are."""


def build(
    previous: Status,
    turn: Turn,
    *,
    name: str,
    generation: int,
    spec: LLMWorkerPoolSpec | None,
    models: tuple[ModelState, ...] | None,
    history: dict[str, Any],
) -> Status:
    """The whole status after a turn. What is not known is left out, but sizes stay as they were last known."""
    status: Status = {
        **{key: previous[key] for key in ("replicas", "readyReplicas", "desiredReplicas") if key in previous},
        "observedGeneration": generation,
        "selector": selector(name),
        "conditions": merge(previous.get("conditions") or [], findings(turn, spec), at=turn.at, generation=generation),
        "history": history,
        **_sizes(turn),
        **_counts(turn),
        **({} if turn.decision is None else reasons(turn.decision, spec, at=turn.at)),
        **waiting(turn),
        **gpu(turn.sighting.gpu),
        **preloaded(models),
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
    for key in changed.keys() & _OBJECTS:
        # A merge patch merges objects too: what the new one no longer has must go.
        changed[key] = {**dict.fromkeys(written.get(key) or {}), **wanted[key]}
    return {**gone, **changed}


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
    """Without what moves all the time: the history, and when the numbers were found. Those go along with a write."""
    shown = {key: value for key, value in status.items() if key != "history"}
    if "decision" in shown:
        shown["decision"] = {**shown["decision"], "at": None}
    if "metrics" in shown:
        shown["metrics"] = [{**metric, "at": None} for metric in shown["metrics"]]
    return shown
