"""Stabilisation windows (``horizontal.go``, stabilizeRecommendationWithBehaviors).

An envelope: the size moves only as far as every recent proposal agrees that it must.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .rules import BothRules
from .types import Finding, Reason, Recommendation


@dataclass(frozen=True, slots=True)
class Stable:
    """A desired size after the windows, and the condition AbleToScale."""

    replicas: int
    able: Finding


def stabilize(
    rules: BothRules, current: int, desired: int, recommendations: Sequence[Recommendation], now: float
) -> Stable:
    """Keep ``current`` within the lowest proposal of the up window and the highest of the down window.

    ``recommendations`` are the earlier raw proposals; ``desired`` is the present one and always counts.
    """
    recent_up = (r.replicas for r in recommendations if now - r.at < rules.up.window)
    recent_down = (r.replicas for r in recommendations if now - r.at < rules.down.window)
    lowest = min((desired, *recent_up))
    highest = max((desired, *recent_down))
    # In HPA's order: where the two disagree, the down window's bound has the last word.
    replicas = min(max(current, lowest), highest)
    return Stable(replicas, _finding(rules, current, desired, replicas))


def _finding(rules: BothRules, current: int, desired: int, replicas: int) -> Finding:
    if replicas == desired:
        return Finding(
            "AbleToScale", "True", Reason.READY_FOR_NEW_SCALE, f"no recent proposal speaks against {desired}"
        )
    if desired >= current:
        reason, word, window = Reason.SCALE_UP_STABILIZED, "lowest", rules.up.window
    else:
        reason, word, window = Reason.SCALE_DOWN_STABILIZED, "highest", rules.down.window
    text = f"{replicas} instead of {desired}: the {word} proposal of the last {window} s counts"
    return Finding("AbleToScale", "True", reason, text)
