"""A turn as conditions: what each says, with which reason. HPA's names where HPA has one."""

from __future__ import annotations

from collections.abc import Iterator

from llmpool_contract.pool import LLMWorkerPoolSpec
from llmpool_operator.decide.types import Finding, Missing
from llmpool_operator.models import models_ready
from llmpool_operator.targets.base import TargetError, Turn

from . import sentences


def findings(turn: Turn, spec: LLMWorkerPoolSpec | None) -> Iterator[Finding]:
    """All conditions that a turn has something to say about. ``spec`` None: it can't be read.

    Of two of one type the later counts.
    """
    yield _ready(turn, spec)
    if turn.decision is not None:
        yield from turn.decision.conditions
    if turn.resized is not None:
        text = f"the target was asked for {turn.resized[1]} workers"
        yield Finding("AbleToScale", "True", "SucceededRescale", text)
    if turn.failure is not None:
        yield from _failed(turn.failure, decided=turn.decision is not None)
    if spec is not None:
        yield models_ready(spec.models.preload, turn.sighting.reports)
        yield _paused(spec)


def _failed(failure: TargetError, *, decided: bool) -> Iterator[Finding]:
    if not decided:  # nothing of what an earlier turn found holds
        yield Finding("ScalingActive", "False", failure.reason, failure.message)
        yield Finding("MetricsAvailable", "Unknown", failure.reason, "not looked at")
    if not failure.sized:
        yield Finding("AbleToScale", "False", failure.reason, failure.message)


def _ready(turn: Turn, spec: LLMWorkerPoolSpec | None) -> Finding:
    if turn.failure is not None:
        return Finding("Ready", "False", turn.failure.reason, turn.failure.message)
    if isinstance(turn.size, Missing):
        return Finding("Ready", "Unknown", turn.size.reason, "the number of workers is not known")
    if spec is not None and spec.mode == "Observe":
        return Finding("Ready", "True", "Observing", sentences.observing(turn.size, turn.decision))
    wanted = turn.size.intended if turn.decision is None else turn.decision.replicas
    ready, homeless = turn.size.ready, turn.size.unschedulable
    told = sentences.workers(ready, wanted, draining=turn.draining, unschedulable=homeless)
    if wanted == 0:
        end = f"; {sentences.drains(turn.draining)}" if turn.draining else ""
        return Finding("Ready", "True", "ScaledToZero", f"no workers are asked for{end}")
    if homeless and ready < wanted:
        return Finding("Ready", "True" if ready else "False", "Unschedulable", told)
    if ready == 0:
        return Finding("Ready", "False", "NoWorkerReady", told)
    return Finding("Ready", "True", "WorkersReady" if ready >= wanted else "WorkersStarting", told)


def _paused(spec: LLMWorkerPoolSpec) -> Finding:
    text = f"spec.paused is {spec.paused}"
    if spec.paused == "None":
        return Finding("Paused", "False", "NotPaused", text)
    return Finding("Paused", "True", f"Paused{spec.paused}", text)
