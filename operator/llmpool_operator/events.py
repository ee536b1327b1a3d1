"""Kubernetes Events: what they are called, what they say, and their shape. Built here and nowhere else."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from llmpool_contract.labels import API_VERSION, KIND, MANAGER
from llmpool_contract.pool import LLMWorkerPoolSpec

from .conditions import timestamp
from .decide.types import Decision, Missing
from .explain import sentences
from .kube import Object
from .models import ModelState
from .targets.base import Size, TargetError, Turn

MAX_MESSAGE = 1_024
"""The API server refuses longer notes."""
Models: TypeAlias = tuple[ModelState, ...] | None
_MODEL = "model "
_BURST = 25.0
_REFILL_SECONDS = 300.0
_OWN_REASONS = frozenset(
    {"ScaledByAnother", "AmbiguousQueue", "DeploymentNotOurs", "InvalidSpec", "NoImage", "PoolNameTaken"}
)
"""Failures that an Event is named after: no call failed, something is as it shouldn't be."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something worth a line in ``kubectl describe``."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


class PoolEvents:
    """Which Events one pool's turns are worth: each trouble once, when it begins, and never more than a bucket holds.

    The bound is client-go's for one object (25 at once, then one in five minutes), one for each type, so that a pool
    that is resized all the time still tells its troubles.
    """

    def __init__(self) -> None:
        self._standing: frozenset[str] = frozenset()
        self._buckets = {"Normal": Bucket(), "Warning": Bucket()}
        self.dropped = 0
        """Events that were too many."""

    def of(self, turn: Turn, spec: LLMWorkerPoolSpec | None, models: Models) -> list[Event]:
        """The Events of a turn. None: the spec, or the workers' reports, can't be read."""
        troubles = dict(_troubles(turn, models))
        new = [event for about, event in troubles.items() if about not in self._standing]
        unknown = (about for about in self._standing if models is None and about.startswith(_MODEL))
        self._standing = frozenset([*troubles, *unknown])
        return [event for event in [*_changes(turn, spec), *new] if self._let(event, turn.at)]

    def _let(self, event: Event, at: float) -> bool:
        allowed = self._buckets[event.type].take(at)
        self.dropped += not allowed
        return allowed


@dataclass(slots=True)
class Bucket:
    """A token bucket; times are Unix seconds, and a clock that was set back costs nothing."""

    tokens: float = _BURST
    at: float = 0.0

    def take(self, now: float) -> bool:
        """Whether there is one left."""
        refill = max(0.0, now - self.at) / _REFILL_SECONDS
        self.tokens, self.at = min(_BURST, self.tokens + refill), now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


def _changes(turn: Turn, spec: LLMWorkerPoolSpec | None) -> Iterator[Event]:
    """What happened in this turn."""
    observing = spec is not None and spec.mode == "Observe"
    if turn.found is not None and not observing:
        yield Event("Normal", "ScaledByAnother", sentences.found(*turn.found, turn.found_by))
    if turn.resized is not None and turn.decision is not None and not observing:
        yield Event("Normal", "SuccessfulRescale", sentences.rescaled(turn.resized[1], turn.decision))


def _troubles(turn: Turn, models: Models) -> Iterator[tuple[str, Event]]:
    """What is wrong in this turn, by what it is about: the same again is no news."""
    if turn.failure is not None:
        yield f"failure {turn.failure.reason}", _failed(turn, turn.failure)
    if turn.decision is not None:
        yield from _unread(turn.decision)
    if isinstance(turn.size, Size) and turn.size.unschedulable:
        yield "unschedulable", Event("Warning", "Unschedulable", sentences.pods(turn.size.unschedulable))
    for state in models or ():
        if state.error is not None:
            yield f"{_MODEL}{state.name}", Event("Warning", "ModelFailed", sentences.model_failed(state))


def _failed(turn: Turn, failure: TargetError) -> Event:
    """A target that couldn't be read, refused the size, or refused the manifest while the size is as it should be."""
    if failure.reason in _OWN_REASONS:
        return Event("Warning", failure.reason, failure.message)
    reason = "FailedApply" if failure.sized else "FailedRescale"
    if turn.decision is None:
        reason = "FailedGetScale"
    return Event("Warning", reason, sentences.failed(failure))


def _unread(decision: Decision) -> Iterator[tuple[str, Event]]:
    """Metrics that can't be had, by HPA's names; and that no size can be computed without them."""
    for index, metric in enumerate(decision.metrics):
        if metric.invalid or isinstance(metric.value, Missing):
            reason = "FailedGetPodsMetric" if metric.type == "GPUUtilization" else "FailedGetExternalMetric"
            yield f"metric {index}", Event("Warning", reason, metric.message)
    if decision.hold:
        size = decision.replicas
        yield "hold", Event("Warning", "FailedComputeMetricsReplicas", sentences.held(size, decision.metrics))


def manifest(pool: Object, event: Event, *, at: float) -> Object:
    """The object to POST. Its name is the pool's and a random end, as everybody's are."""
    metadata = pool["metadata"]
    moment = timestamp(at)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name'][:236]}.{secrets.token_hex(8)}",
            "namespace": metadata["namespace"],
        },
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata.get("resourceVersion"),
        },
        "type": event.type,
        "reason": event.reason,
        "message": event.message[:MAX_MESSAGE],
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
        "source": {"component": MANAGER},
        "reportingComponent": MANAGER,
        "reportingInstance": MANAGER,
    }
