"""What comes of a desired size: constructors of :class:`Settled`, and the vetoes and pauses that come last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from llmpool_contract.pool import Paused, Scaling

from .history import remember, seeded
from .limits import Limited, limit
from .rules import BothRules, rules_of
from .schedules import bounds_at
from .stabilize import Stable, stabilize
from .types import Bounds, Finding, History, MetricProposal, Reason, Settled


def settle_size(
    scaling: Scaling, current: int, desired: int, history: History, now: float, *, bounds: Bounds | None = None
) -> Settled:
    """What HPA makes of a desired size once the metrics have spoken: stabilisation, rate policies, bounds.

    ``bounds``: those of ``scaling`` and its schedules unless given. A history without recommendations is the first
    decision's: ``current`` seeds it.
    """
    history = seeded(history, current, now)
    rules = rules_of(scaling.behavior)
    stable = stabilize(rules, current, desired, history.recommendations or (), now)
    return limited(rules, current, desired, stable, bounds or bounds_at(scaling, now), history, now)


def limited(
    rules: BothRules, current: int, desired: int, stable: Stable, bounds: Bounds, history: History, now: float
) -> Settled:
    """A stabilised size after rate policies and bounds. ``desired`` is what the history remembers."""
    result = limit(rules, current, stable.replicas, bounds, history.events, now)
    limits: list[str] = []
    if stable.able.reason != Reason.READY_FOR_NEW_SCALE:
        limits.append(line(stable.able.reason, stable.able.message))
    is_limited = result.replicas != stable.replicas
    if is_limited:
        limits.append(line(result.reason, result.message))
    told = result if is_limited or not limits else Limited(0, Reason(stable.able.reason), stable.able.message)
    return Settled(
        stabilized=stable.replicas,
        replicas=result.replicas,
        reason=told.reason,
        message=told.message,
        limits=tuple(limits),
        able=stable.able,
        limited=Finding("ScalingLimited", "True" if is_limited else "False", result.reason, result.message),
        history=remember(history, desired, now, rules),
    )


def fixed(replicas: int, reason: Reason, message: str, history: History, *, limited: bool = False) -> Settled:
    """A size that stabilisation and policies have no part in."""
    return Settled(
        stabilized=replicas,
        replicas=replicas,
        reason=reason,
        message=message,
        limits=(line(reason, message),) if limited else (),
        able=Finding("AbleToScale", "True", Reason.READY_FOR_NEW_SCALE, "nothing stands in the way of a new size"),
        limited=Finding("ScalingLimited", "True", reason, message)
        if limited
        else Finding("ScalingLimited", "False", Reason.DESIRED_WITHIN_RANGE, "no limit was applied"),
        history=history,
    )


def short_cut(bounds: Bounds, current: int, history: History) -> Settled | None:
    """Outside the bounds: back to them at once, past metrics and policies. No proposal is remembered."""
    if current > bounds.upper:
        message = f"{bounds.upper} instead of {current}: more than maxReplicas"
        return fixed(bounds.upper, Reason.TOO_MANY_REPLICAS, message, history, limited=True)
    if current < bounds.lower:
        message = f"{bounds.lower} instead of {current}: fewer than minReplicas"
        return fixed(bounds.lower, Reason.TOO_FEW_REPLICAS, message, history, limited=True)
    return None


def held(current: int, proposals: Sequence[MetricProposal], history: History) -> Settled:
    """The metrics say nothing that counts."""
    missing = "; ".join(proposal.message for proposal in proposals if proposal.invalid)
    return fixed(current, Reason.METRICS_MISSING, f"held at {current}: {missing}", history)


def at_least_minimum(settled: Settled, bounds: Bounds) -> Settled:
    """From zero the minimum is reached at once, whatever windows and policies say (as HPA has it)."""
    if settled.replicas >= bounds.lower:
        return settled
    message = f"{bounds.lower} instead of {settled.replicas}: fewer than minReplicas"
    return _stopped(settled, bounds.lower, Reason.TOO_FEW_REPLICAS, message)


def unless_vetoed(
    settled: Settled, current: int, proposals: Sequence[MetricProposal], unschedulable: int, bounds: Bounds
) -> Settled:
    """Growth beyond minReplicas ends where a Ceiling is exceeded, or pods of the pool wait for a node."""
    allowed = max(current, bounds.lower)
    wanted = settled.replicas
    if wanted <= allowed:
        return settled
    for proposal in proposals:
        if proposal.forbids_growth:
            message = f"{allowed} instead of {wanted}: {proposal.message}"
            settled = _stopped(settled, allowed, Reason.ABOVE_CEILING, message)
    if unschedulable > 0:
        pods = "a pod waits" if unschedulable == 1 else f"{unschedulable} pods wait"
        message = f"{allowed} instead of {wanted}: {pods} for a node that has room"
        settled = _stopped(settled, allowed, Reason.UNSCHEDULABLE, message)
    return settled


def unless_paused(settled: Settled, current: int, paused: Paused) -> Settled:
    """A direction that is paused is not taken."""
    blocked = {
        "None": False,
        "All": True,
        "ScaleIn": settled.replicas < current,
        "ScaleOut": settled.replicas > current,
    }[paused]
    if not blocked:
        return settled
    if settled.replicas == current:
        return replace(settled, reason=Reason.PAUSED, message=f"held at {current}: paused is {paused}")
    message = f"held at {current} instead of {settled.replicas}: paused is {paused}"
    return _stopped(settled, current, Reason.PAUSED, message)


def _stopped(settled: Settled, replicas: int, reason: Reason, message: str) -> Settled:
    """One more limit changes the size."""
    return replace(
        settled,
        replicas=replicas,
        reason=reason,
        message=message,
        limits=(*settled.limits, line(reason, message)),
        limited=Finding("ScalingLimited", "True", reason, message),
    )


def woken(settled: Settled, bounds: Bounds) -> Settled:
    """From zero any known job wakes max(1, minReplicas) at least, past metrics, windows, policies and vetoes."""
    replicas = max(settled.replicas, bounds.lower, 1)
    message = f"there is work: from 0 to {replicas}"
    lines = settled.limits if replicas == settled.replicas else (*settled.limits, line(Reason.FROM_ZERO, message))
    limited = Finding("ScalingLimited", "False", Reason.DESIRED_WITHIN_RANGE, message)
    if replicas == settled.replicas:
        limited = settled.limited
    return replace(settled, replicas=replicas, reason=Reason.FROM_ZERO, message=message, limits=lines, limited=limited)


def line(reason: str, message: str) -> str:
    """A limit as one line."""
    return f"{reason}: {message}"
