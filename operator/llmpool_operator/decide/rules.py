"""``behavior`` with everything filled in.

Defaults: kubernetes 1.37 ``pkg/apis/autoscaling/v2/defaults.go``, and our own where the pool gives no behavior.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Literal

from llmpool_contract.pool import Behavior, Policy, ScalingRules

SelectPolicy = Literal["Max", "Min", "Disabled"]

DEFAULT_TOLERANCE = Decimal("0.1")
"""HPA's ``--horizontal-pod-autoscaler-tolerance``."""
DOWN_WINDOW = 300
"""HPA's ``--horizontal-pod-autoscaler-downscale-stabilization``, seconds."""


@dataclass(frozen=True, slots=True)
class Rules:
    """One direction."""

    window: int
    """Stabilisation window, seconds. 0: only the present proposal counts."""
    select: SelectPolicy
    policies: tuple[Policy, ...]
    tolerance: float


@dataclass(frozen=True, slots=True)
class BothRules:
    """Both directions."""

    up: Rules
    down: Rules

    @property
    def longest_window(self) -> int:
        """Seconds that a recommendation can matter."""
        return max(self.up.window, self.down.window)

    @property
    def longest_period(self) -> int:
        """Seconds that a scale event can matter: each direction counts the other's too."""
        return max(policy.period_seconds for policy in (*self.up.policies, *self.down.policies))

    def tolerates(self, ratio: float) -> bool:
        """Whether a metric that is ``ratio`` times its target is near enough to leave the size alone."""
        return 1.0 - self.down.tolerance <= ratio <= 1.0 + self.up.tolerance


def _percent(value: int, period: int) -> Policy:
    return Policy.model_validate({"type": "Percent", "value": value, "periodSeconds": period})


def _pods(value: int, period: int) -> Policy:
    return Policy.model_validate({"type": "Pods", "value": value, "periodSeconds": period})


def rules_of(behavior: Behavior | None) -> BothRules:
    """Fill ``behavior`` in.

    Absent: up at once, down as HPA. Present, even if empty: HPA's defaults, field by field; ``policies`` is one field.
    """
    at_once, hpa = _defaults()
    if behavior is None:
        return at_once
    return BothRules(_overlay(hpa.up, behavior.scale_up), _overlay(hpa.down, behavior.scale_down))


@cache
def _defaults() -> tuple[BothRules, BothRules]:
    """Without a behavior, and for the parts that a given behavior leaves out."""
    tolerance = float(DEFAULT_TOLERANCE)
    at_once = Rules(0, "Max", (_pods(10_000, 1),), tolerance)
    up = Rules(0, "Max", (_pods(4, 15), _percent(100, 15)), tolerance)
    down = Rules(DOWN_WINDOW, "Max", (_percent(100, 15),), tolerance)
    return BothRules(at_once, down), BothRules(up, down)


def _overlay(defaults: Rules, given: ScalingRules | None) -> Rules:
    if given is None:
        return defaults
    window, tolerance = given.stabilization_window_seconds, given.tolerance
    return Rules(
        window=defaults.window if window is None else window,
        select=given.select_policy or defaults.select,
        policies=tuple(given.policies) if given.policies is not None else defaults.policies,
        tolerance=defaults.tolerance if tolerance is None else _as_hpa_s_float(tolerance),
    )


def _as_hpa_s_float(quantity: Decimal) -> float:
    """Quantity.AsApproximateFloat64: digits times a power of ten, which isn't always the nearest float.

    The API server writes fractions in thousandths, millionths or billionths.
    """
    for power in (0, 3, 6, 9):
        if (digits := quantity.scaleb(power)) == int(digits):
            return float(int(digits)) * float(f"1e-{power}")
    return float(quantity)
