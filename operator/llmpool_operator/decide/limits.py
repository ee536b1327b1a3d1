"""Rate policies and bounds (``horizontal.go``, convertDesiredReplicasWithBehaviorRate and its helpers)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .rules import BothRules, Rules
from .types import MAX_INT32, Bounds, Reason, ScaleEvent


@dataclass(frozen=True, slots=True)
class Limited:
    """A size that policies and bounds allow, and the first of them that stood in the way."""

    replicas: int
    reason: Reason
    message: str


def limit(
    rules: BothRules, current: int, wanted: int, bounds: Bounds, events: Sequence[ScaleEvent], now: float
) -> Limited:
    """Move from ``current`` towards ``wanted`` as far as policies and bounds allow now.

    As in HPA, a bound may turn the direction round where ``current`` itself is outside of it.
    """
    if wanted > current:
        fastest = max(scale_up_limit(rules.up, current, events, now), current)
        allowed = min(fastest, bounds.upper)
        if wanted > allowed:
            return _too_many(wanted, allowed, bounds.upper > fastest)
    elif wanted < current:
        fastest = min(scale_down_limit(rules.down, current, events, now), current)
        allowed = max(fastest, bounds.lower)
        if wanted < allowed:
            return _too_few(wanted, allowed, bounds.lower < fastest)
    return Limited(wanted, Reason.DESIRED_WITHIN_RANGE, not_limited(wanted, bounds))


def not_limited(replicas: int, bounds: Bounds) -> str:
    """The sentence for a size that no limit changed. One that is wanted and there already may be out of bounds."""
    if bounds.lower <= replicas <= bounds.upper:
        return f"{replicas} is within the range that is allowed now"
    side = "less than minReplicas" if replicas < bounds.lower else "more than maxReplicas"
    return f"{replicas} is wanted and there already: nothing is limited, though it is {side}"


def _too_many(wanted: int, allowed: int, by_rate: bool) -> Limited:
    if by_rate:
        return Limited(allowed, Reason.SCALE_UP_LIMIT, f"{allowed} instead of {wanted}: the scaleUp policies' rate")
    return Limited(allowed, Reason.TOO_MANY_REPLICAS, f"{allowed} instead of {wanted}: more than maxReplicas")


def _too_few(wanted: int, allowed: int, by_rate: bool) -> Limited:
    if by_rate:
        return Limited(allowed, Reason.SCALE_DOWN_LIMIT, f"{allowed} instead of {wanted}: the scaleDown policies' rate")
    return Limited(allowed, Reason.TOO_FEW_REPLICAS, f"{allowed} instead of {wanted}: fewer than the minimum")


def scale_up_limit(rules: Rules, current: int, events: Sequence[ScaleEvent], now: float) -> int:
    """The largest size that the policies allow now.

    Percent is in floats and rounded up, as HPA has it: 100 pods and 10 % are 111, since 100 * 1.1 is a little over 110.
    What is above int32 ends there. HPA's Pods wrap round instead, so that a policy of 2147483647 stops its scale-up.
    """
    if rules.select == "Disabled":
        return current
    proposed = []
    for policy in rules.policies:
        start = current - net_change(events, policy.period_seconds, now)
        percent = policy.type == "Percent"
        proposed.append(math.ceil(start * (1 + policy.value / 100)) if percent else start + policy.value)
    return min(MAX_INT32, min(proposed) if rules.select == "Min" else max(proposed))


def scale_down_limit(rules: Rules, current: int, events: Sequence[ScaleEvent], now: float) -> int:
    """The smallest size that the policies allow now. Percent is in floats and rounded towards zero, as HPA has it."""
    if rules.select == "Disabled":
        return current
    proposed = []
    for policy in rules.policies:
        start = current - net_change(events, policy.period_seconds, now)
        percent = policy.type == "Percent"
        proposed.append(math.trunc(start * (1 - policy.value / 100)) if percent else start - policy.value)
    return max(proposed) if rules.select == "Min" else min(proposed)


def net_change(events: Sequence[ScaleEvent], period: int, now: float) -> int:
    """What was added less what was removed within the period: current less this is the size at its start."""
    return sum(event.change for event in events if now - event.at < period)
