"""What is waited for that nobody has to tell: it follows from the spec, the history in the status, and the time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llmpool_contract.pool import LLMWorkerPoolSpec
from llmpool_operator.conditions import timestamp
from llmpool_operator.decide import from_dict, rules_of
from llmpool_operator.decide.types import History

from . import sentences
from .times import ago


def waits(status: Mapping[str, Any], spec: LLMWorkerPoolSpec | None, now: float) -> Iterator[str]:
    """One sentence each: what the operator told, then the countdowns, then workers that start."""
    told = [str(sentence) for sentence in status.get("waits") or ()]
    yield from told
    if spec is not None and spec.replicas is None and spec.paused in ("None", "ScaleOut"):
        yield from _countdowns(status, spec, now)
    yield from _starting(status)
    draining = status.get("draining") or 0
    if draining and not told:
        yield sentences.drains(draining)


def _countdowns(status: Mapping[str, Any], spec: LLMWorkerPoolSpec, now: float) -> Iterator[str]:
    """The way down. To zero goes past the stabilisation window, so the earlier of the two counts."""
    history = from_dict(status.get("history"))
    lowest = (status.get("bounds") or {}).get("minReplicas", spec.scaling.min_replicas)
    idle = _idle(status, spec, history) if lowest == 0 else None
    if idle is not None:
        since, due = idle
        yield f"idle countdown: all queues are empty since {since}; to zero at {timestamp(due)} ({ago(now - due)})"
    held = _held_by_window(status, spec, history, max(lowest, 1))
    if held is not None and now < held[1] and (idle is None or held[1] < idle[1]):
        goal, until = held
        yield (
            f"scale-down window: {goal} at {timestamp(until)} at the earliest ({ago(now - until)}), "
            "when the last larger proposal is out of the window"
        )


def _idle(status: Mapping[str, Any], spec: LLMWorkerPoolSpec, history: History) -> tuple[str, float] | None:
    """Since when all is empty, and when that is long enough. Only while there is a worker."""
    if not status.get("desiredReplicas") or history.empty_since is None:
        return None
    return timestamp(history.empty_since), history.empty_since + spec.scaling.idle_seconds


def _held_by_window(
    status: Mapping[str, Any], spec: LLMWorkerPoolSpec, history: History, lowest: int
) -> tuple[int, float] | None:
    """A smaller size that is wanted, and when its last larger proposal leaves the window."""
    decision = status.get("decision") or {}
    desired, size = decision.get("desired"), decision.get("replicas")
    if desired is None or size is None or max(desired, lowest) >= size:
        return None
    goal = max(desired, lowest)
    above = [entry.at for entry in history.recommendations or () if entry.replicas > goal]
    return (goal, max(above) + rules_of(spec.scaling.behavior).down.window) if above else None


def _starting(status: Mapping[str, Any]) -> Iterator[str]:
    desired, ready = status.get("desiredReplicas"), status.get("readyReplicas")
    if desired is not None and ready is not None and ready < desired:
        yield f"workers that start: {sentences.workers(ready, desired)}"
