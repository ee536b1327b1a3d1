"""The decision itself: fetch nothing, change nothing, say why.

The order is HPA's (``horizontal.go``, reconcileAutoscaler): manual size, short cuts, metrics, stabilisation, rate
policies, bounds; then what is ours: zero and pauses.
"""

from __future__ import annotations

from dataclasses import replace

from llmpool_contract.pool import LLMWorkerPoolSpec, Scaling

from .history import remember, seeded
from .limits import Bounds, Limited, limit
from .proposal import propose
from .rules import BothRules, rules_of
from .stabilize import Stable, stabilize
from .types import Decision, Finding, History, MetricProposal, Missing, Observation, Reason, Settled
from .zero import has_work, is_idle, watch_emptiness


def decide(spec: LLMWorkerPoolSpec, current: int, observation: Observation, history: History, now: float) -> Decision:
    """The size that a pool should have now.

    Args:
        spec: what the user wants.
        current: the intended size (what the last decision asked for, or somebody by hand), not what is ready.
        observation: the queues as they were just read.
        history: from the last decision.
        now: Unix seconds, the clock of ``observation`` and ``history``.
    """
    history = watch_emptiness(history, spec.queues, observation)
    rules = rules_of(spec.scaling.behavior)
    proposals = tuple(propose(metric, spec.queues, observation, current, rules) for metric in spec.scaling.metrics)
    if spec.replicas is not None:
        return _manual(spec.replicas, current, proposals, history)
    history = seeded(history, current, now)
    desired = _largest(proposals, current)
    settled = (
        _short_cut(spec.scaling, current, history)
        or (None if desired is None else _settle(spec, current, desired, observation, history, now))
        or _held(current, proposals, history)
    )
    settled = _woken(spec, current, observation, settled)
    settled = _unless_paused(spec, current, settled)
    return _decision(current, desired, settled, proposals, _scaling_active(spec, proposals))


def settle_size(
    scaling: Scaling, current: int, desired: int, history: History, now: float, *, lower: int | None = None
) -> Settled:
    """What HPA makes of a desired size once the metrics have spoken: stabilisation, rate policies, bounds.

    ``lower`` is the smallest size, ``minReplicas`` unless given. A history without recommendations is the first
    decision's: ``current`` seeds it.
    """
    history = seeded(history, current, now)
    rules = rules_of(scaling.behavior)
    stable = stabilize(rules, current, desired, history.recommendations or (), now)
    bounds = Bounds(scaling.min_replicas if lower is None else lower, scaling.max_replicas)
    return _limited(rules, current, desired, stable, bounds, history, now)


def _settle(
    spec: LLMWorkerPoolSpec, current: int, desired: int, seen: Observation, history: History, now: float
) -> Settled:
    """The regular way, with the zero rule: known idleness takes the place of the window, and opens the way to zero."""
    scaling = spec.scaling
    if current > 0 and is_idle(scaling, spec.queues, seen, history, now):
        text = f"all queues have been empty for {scaling.idle_seconds} s, and nothing is due within as long"
        stable = Stable(0, Finding("AbleToScale", "True", Reason.IDLE_TO_ZERO, text))
        bounds = Bounds(0, scaling.max_replicas)
        return _limited(rules_of(scaling.behavior), current, desired, stable, bounds, history, now)
    lower = max(scaling.min_replicas, min(current, 1))
    return settle_size(scaling, current, desired, history, now, lower=lower)


def _limited(
    rules: BothRules, current: int, desired: int, stable: Stable, bounds: Bounds, history: History, now: float
) -> Settled:
    result = limit(rules, current, stable.replicas, bounds, history.events, now)
    limits: list[str] = []
    if stable.able.reason != Reason.READY_FOR_NEW_SCALE:
        limits.append(_line(stable.able))
    is_limited = result.replicas != stable.replicas
    if is_limited:
        limits.append(f"{result.reason}: {result.message}")
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


def _largest(proposals: tuple[MetricProposal, ...], current: int) -> int | None:
    """The largest proposal. None: hold, because all are invalid, or some are and the rest would shrink the pool."""
    valid = [proposal.replicas for proposal in proposals if proposal.replicas is not None]
    if not valid or (len(valid) < len(proposals) and max(valid) < current):
        return None
    return max(valid)


def _short_cut(scaling: Scaling, current: int, history: History) -> Settled | None:
    """Outside the bounds: back to them at once, past metrics and policies. No proposal is remembered."""
    if current > scaling.max_replicas:
        message = f"{scaling.max_replicas} instead of {current}: more than maxReplicas"
        return _fixed(scaling.max_replicas, Reason.TOO_MANY_REPLICAS, message, history, limited=True)
    if current < scaling.min_replicas:
        message = f"{scaling.min_replicas} instead of {current}: fewer than minReplicas"
        return _fixed(scaling.min_replicas, Reason.TOO_FEW_REPLICAS, message, history, limited=True)
    return None


def _held(current: int, proposals: tuple[MetricProposal, ...], history: History) -> Settled:
    missing = "; ".join(proposal.message for proposal in proposals if proposal.replicas is None)
    return _fixed(current, Reason.METRICS_MISSING, f"held at {current}: {missing}", history)


def _fixed(replicas: int, reason: Reason, message: str, history: History, *, limited: bool = False) -> Settled:
    """A size that stabilisation and policies have no part in."""
    line = f"{reason}: {message}"
    return Settled(
        stabilized=replicas,
        replicas=replicas,
        reason=reason,
        message=message,
        limits=(line,) if limited else (),
        able=Finding("AbleToScale", "True", Reason.READY_FOR_NEW_SCALE, "nothing stands in the way of a new size"),
        limited=Finding("ScalingLimited", "True", reason, message)
        if limited
        else Finding("ScalingLimited", "False", Reason.DESIRED_WITHIN_RANGE, "no limit was applied"),
        history=history,
    )


def _woken(spec: LLMWorkerPoolSpec, current: int, seen: Observation, settled: Settled) -> Settled:
    """From zero any known job wakes at least max(1, minReplicas), whatever metrics, windows and policies say."""
    if current > 0 or not has_work(spec.queues, seen):
        return settled
    replicas = max(settled.replicas, spec.scaling.min_replicas, 1)
    return replace(settled, replicas=replicas, reason=Reason.FROM_ZERO, message=f"there is work: from 0 to {replicas}")


def _unless_paused(spec: LLMWorkerPoolSpec, current: int, settled: Settled) -> Settled:
    blocked = {
        "None": False,
        "All": True,
        "ScaleIn": settled.replicas < current,
        "ScaleOut": settled.replicas > current,
    }[spec.paused]
    if not blocked:
        return settled
    if settled.replicas == current:
        return replace(settled, reason=Reason.PAUSED, message=f"held at {current}: paused is {spec.paused}")
    message = f"held at {current} instead of {settled.replicas}: paused is {spec.paused}"
    return replace(
        settled,
        replicas=current,
        reason=Reason.PAUSED,
        message=message,
        limits=(*settled.limits, f"{Reason.PAUSED}: {message}"),
        limited=Finding("ScalingLimited", "True", Reason.PAUSED, message),
    )


def _manual(wanted: int, current: int, proposals: tuple[MetricProposal, ...], history: History) -> Decision:
    """A size by hand. What was proposed before it is forgotten: autoscaling will start from the size that it finds."""
    message = f"spec.replicas is {wanted}: autoscaling is off"
    settled = _fixed(wanted, Reason.MANUAL_REPLICAS, message, replace(history, recommendations=None))
    active = Finding("ScalingActive", "False", Reason.MANUAL_REPLICAS, message)
    return _decision(current, wanted, settled, proposals, active)


def _scaling_active(spec: LLMWorkerPoolSpec, proposals: tuple[MetricProposal, ...]) -> Finding:
    if spec.paused == "All":
        return Finding("ScalingActive", "False", Reason.PAUSED, "paused is All")
    missing = [proposal.message for proposal in proposals if proposal.replicas is None]
    if len(missing) == len(proposals):
        return Finding("ScalingActive", "False", Reason.METRICS_MISSING, "; ".join(missing))
    names = ", ".join(sorted({proposal.type for proposal in proposals if proposal.replicas is not None}))
    return Finding("ScalingActive", "True", Reason.VALID_METRIC_FOUND, f"a size can be computed from {names}")


def _metrics_available(proposals: tuple[MetricProposal, ...]) -> Finding:
    missing = [p.message for p in proposals if isinstance(p.value, Missing)]
    if missing:
        return Finding("MetricsAvailable", "False", Reason.METRICS_MISSING, "; ".join(missing))
    return Finding("MetricsAvailable", "True", Reason.METRICS_FOUND, "; ".join(p.message for p in proposals))


def _decision(
    current: int, desired: int | None, settled: Settled, proposals: tuple[MetricProposal, ...], active: Finding
) -> Decision:
    """``desired`` None: the metrics say nothing that counts, so it is the current size."""
    asked = "; ".join(proposal.message for proposal in proposals)
    return Decision(
        replicas=settled.replicas,
        desired=current if desired is None else desired,
        stabilized=settled.stabilized,
        reason=settled.reason,
        message=f"{settled.message} ({asked})" if settled.reason != Reason.METRICS_MISSING else settled.message,
        limits=settled.limits,
        metrics=proposals,
        conditions=(active, settled.able, settled.limited, _metrics_available(proposals)),
        history=settled.history,
        hold=desired is None and settled.replicas == current,
    )


def _line(finding: Finding) -> str:
    return f"{finding.reason}: {finding.message}"
