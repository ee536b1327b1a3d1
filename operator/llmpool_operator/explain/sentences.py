"""Sentences that conditions, Events and ``llmpool explain`` share: each is made here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

from llmpool_operator.decide.types import Decision, MetricProposal
from llmpool_operator.models import ModelState
from llmpool_operator.targets.base import Size, TargetError


def workers(ready: int, wanted: int, *, draining: int = 0, unschedulable: int = 0) -> str:
    """How many workers there are of those asked for, and what became of the others."""
    parts = [f"{ready} of {wanted} workers are ready"]
    if unschedulable:
        parts.append(pods(unschedulable))
    if draining:
        parts.append(drains(draining))
    return "; ".join(parts)


def pods(unschedulable: int) -> str:
    """Pods without a node."""
    return f"{_count(unschedulable, 'pod')} can't be scheduled: no more are asked for until they fit"


def drains(draining: int) -> str:
    """Workers on their way out."""
    return f"{_count(draining, 'worker')} {'drains' if draining == 1 else 'drain'} before a scale-in"


def observing(size: Size, decision: Decision | None) -> str:
    """What ``mode: Observe`` sees, and what it would do."""
    seen = f"observing {_count(size.existing, 'worker')}, {size.ready} ready"
    would = "" if decision is None else f"; this pool would have {decision.replicas}"
    return f"{seen}{would}; nothing is changed"


def rescaled(replicas: int, decision: Decision) -> str:
    """A new size, in HPA's words, with our reason."""
    return f"New size: {replicas}; reason: {why(decision)}"


def why(decision: Decision) -> str:
    """A decision in one line."""
    return f"{decision.reason}: {decision.message}"


def failed(error: TargetError) -> str:
    """What a target could not do."""
    return f"{error.reason}: {error.message}"


def found(expected: int, there: int, by: str) -> str:
    """A size that somebody else set."""
    return f"the size was changed from {expected} to {there} by {by or 'somebody else'}"


def held(size: int, proposals: Sequence[MetricProposal]) -> str:
    """No size could be computed."""
    missing = "; ".join(proposal.message for proposal in proposals if proposal.invalid)
    return f"the size is held at {size}: {missing}"


def model_failed(state: ModelState) -> str:
    """One model that could not be loaded somewhere."""
    return f"{state.name} is ready on {state.ready} of {_count(state.total, 'worker')}: {state.error}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
