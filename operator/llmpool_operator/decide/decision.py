"""The decision itself: fetch nothing, change nothing, say why.

The order is HPA's (``horizontal.go``, reconcileAutoscaler): manual size, short cuts, metrics, stabilisation, rate
policies, bounds; then what is ours: zero, vetoes and pauses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .history import seeded, watch_rate
from .outcome import (
    at_least_minimum,
    fixed,
    held,
    limited,
    line,
    settle_size,
    short_cut,
    unless_paused,
    unless_vetoed,
    woken,
)
from .proposal import propose
from .readings import readings
from .rules import rules_of
from .schedules import bounds_at
from .stabilize import Stable
from .types import (
    Backlog,
    Bounds,
    Decision,
    Finding,
    History,
    MetricProposal,
    Missing,
    Observation,
    Reading,
    Reason,
    Settled,
    Wanted,
)
from .zero import backlog_of, fallback_size, is_idle, watch_blindness, watch_emptiness


@dataclass(frozen=True, slots=True)
class Known:
    """What a decision goes by besides spec and history."""

    readings: tuple[Reading, ...]
    """One for each of the pool's metrics, in their order."""
    backlog: Backlog
    unschedulable: int = 0


def decide(spec: Wanted, current: int, observation: Observation, history: History, now: float) -> Decision:
    """The size that a pool should have now.

    Args:
        spec: what the user wants.
        current: the intended size (what the last decision asked for, or somebody by hand), not what is ready.
        observation: the queues, pods and queries as they were just read.
        history: from the last decision.
        now: Unix seconds, the clock of ``observation`` and ``history``.

    Raises:
        ValueError: a schedule can't be read (``fault_in_schedules`` tells that beforehand).
    """
    backlog = backlog_of(spec.queues, observation, spec.scaling.idle_seconds)
    history = watch_rate(watch_emptiness(history, backlog, observation.at), observation.rate)
    known = Known(readings(spec, observation, history, now), backlog, observation.unschedulable)
    return conclude(spec, current, known, history, now)


@dataclass(frozen=True, slots=True)
class _Situation:
    """All that a size follows from."""

    spec: Wanted
    current: int
    known: Known
    bounds: Bounds
    proposals: tuple[MetricProposal, ...]
    history: History
    now: float


def conclude(spec: Wanted, current: int, known: Known, history: History, now: float) -> Decision:
    """From readings to a size: :func:`decide` without the reading. ``history`` has watched the queues already."""
    rules, bounds = rules_of(spec.scaling.behavior), bounds_at(spec.scaling, now)
    metrics = zip(spec.scaling.metrics, known.readings, strict=True)
    proposals = tuple(propose(metric, reading, current, rules) for metric, reading in metrics)
    history = watch_blindness(history, proposals, now)
    if spec.replicas is not None:
        return _manual(spec.replicas, current, proposals, bounds, history)
    history = seeded(history, current, now)
    situation = _Situation(spec, current, known, bounds, proposals, history, now)
    desired, fallback = _largest(proposals, current), fallback_size(spec.scaling, history, now)
    if desired is not None:
        settled, fallback = _by_metrics(situation, desired), None
    elif fallback is not None:
        settled = _by_fallback(situation, fallback)
    else:
        settled = short_cut(bounds, current, history) or held(current, proposals, history)
    settled = unless_vetoed(settled, current, proposals, known.unschedulable, bounds)
    if current == 0 and known.backlog.work:
        settled = woken(settled, bounds)
    settled = unless_paused(settled, current, spec.paused)
    active = _scaling_active(spec, proposals, fallback)
    return _decision(current, fallback if desired is None else desired, settled, proposals, bounds, active)


def _by_metrics(of: _Situation, desired: int) -> Settled:
    """The regular way, with the zero rule: known idleness takes the place of the window, and opens the way to zero."""
    scaling, current, bounds, history = of.spec.scaling, of.current, of.bounds, of.history
    if current == 0:
        return at_least_minimum(settle_size(scaling, current, desired, history, of.now, bounds=bounds), bounds)
    if cut := short_cut(bounds, current, history):
        return cut
    if is_idle(scaling, bounds, of.known.backlog, of.proposals, history, of.now):
        text = f"all queues have been empty for {scaling.idle_seconds} s, and nothing is due within as long"
        stable = Stable(0, Finding("AbleToScale", "True", Reason.IDLE_TO_ZERO, text))
        return limited(rules_of(scaling.behavior), current, desired, stable, bounds, history, of.now)
    return settle_size(scaling, current, desired, history, of.now, bounds=_with_the_last(bounds, current))


def _by_fallback(of: _Situation, size: int) -> Settled:
    """The fallback's size, by the same way as a metric's."""
    if cut := short_cut(of.bounds, of.current, of.history):
        return cut
    bounds = _with_the_last(of.bounds, of.current)
    settled = settle_size(of.spec.scaling, of.current, size, of.history, of.now, bounds=bounds)
    text = f"no metric could be read for {_seconds_blind(of.history, of.now)} s, so {size} is the desired size"
    lines = (line(Reason.FALLBACK, text), *settled.limits)
    if settled.limits:
        return replace(settled, limits=lines)
    return replace(settled, reason=Reason.FALLBACK, message=text, limits=lines)


def _seconds_blind(history: History, now: float) -> int:
    return 0 if history.blind_since is None else int(now - history.blind_since)


def _with_the_last(bounds: Bounds, current: int) -> Bounds:
    """Only the zero rule ends the last worker."""
    return replace(bounds, lower=max(bounds.lower, min(current, 1)))


def _largest(proposals: Sequence[MetricProposal], current: int) -> int | None:
    """The largest proposal. None: hold, because all are invalid, or some are and the rest would shrink the pool."""
    asking = [proposal for proposal in proposals if proposal.asks]
    valid = [proposal.replicas for proposal in asking if proposal.replicas is not None]
    if not asking:  # none has a say at zero
        return current
    if not valid or (len(valid) < len(asking) and max(valid) < current):
        return None
    return max(valid)


def _manual(
    wanted: int, current: int, proposals: tuple[MetricProposal, ...], bounds: Bounds, history: History
) -> Decision:
    """A size by hand. What was proposed before it is forgotten: autoscaling will start from the size that it finds."""
    message = f"spec.replicas is {wanted}: autoscaling is off"
    settled = fixed(wanted, Reason.MANUAL_REPLICAS, message, replace(history, recommendations=None))
    active = Finding("ScalingActive", "False", Reason.MANUAL_REPLICAS, message)
    return _decision(current, wanted, settled, proposals, bounds, active)


def _scaling_active(spec: Wanted, proposals: Sequence[MetricProposal], fallback: int | None) -> Finding:
    if spec.paused == "All":
        return Finding("ScalingActive", "False", Reason.PAUSED, "paused is All")
    asking = [proposal for proposal in proposals if proposal.asks]
    missing = "; ".join(proposal.message for proposal in asking if proposal.invalid)
    if fallback is not None:
        return Finding("ScalingActive", "False", Reason.FALLBACK, f"the fallback's size is {fallback}: {missing}")
    if asking and all(proposal.invalid for proposal in asking):
        return Finding("ScalingActive", "False", Reason.METRICS_MISSING, missing)
    names = ", ".join(sorted({proposal.type for proposal in asking if not proposal.invalid}))
    text = f"a size can be computed from {names}" if names else "no metric has a say at 0"
    return Finding("ScalingActive", "True", Reason.VALID_METRIC_FOUND, text)


def _metrics_available(proposals: Sequence[MetricProposal]) -> Finding:
    missing = [p.message for p in proposals if p.asks and isinstance(p.value, Missing)]
    if missing:
        return Finding("MetricsAvailable", "False", Reason.METRICS_MISSING, "; ".join(missing))
    return Finding("MetricsAvailable", "True", Reason.METRICS_FOUND, "; ".join(p.message for p in proposals))


def _decision(
    current: int,
    desired: int | None,
    settled: Settled,
    proposals: tuple[MetricProposal, ...],
    bounds: Bounds,
    active: Finding,
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
        bounds=bounds,
    )
