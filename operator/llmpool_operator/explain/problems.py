"""Which conditions are problems, and what to do about each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .advice import advice_for
from .page import Problem

_WISHED = frozenset({"ManualReplicas", "Paused", "ScalingDisabled"})
"""Reasons that somebody asked for."""
_BAD = {
    "Ready": ("False", "Unknown"),
    "ScalingActive": ("False",),
    "AbleToScale": ("False",),
    "MetricsAvailable": ("False",),
}
_BAD_REASONS = frozenset({"ModelFailed", "Unschedulable", "ScaledByAnother"})
"""Trouble whatever the condition's status is."""


def problems(status: Mapping[str, Any], *, namespace: str, name: str) -> tuple[Problem, ...]:
    """In the conditions' order; what several conditions say is said once."""
    found: dict[str, Problem] = {}
    for condition in status.get("conditions") or ():
        reason, message = condition["reason"], condition["message"]
        if _is_bad(condition) and message not in found:
            advice = advice_for(reason, message, namespace=namespace, name=name)
            found[message] = Problem(condition["type"], reason, message, condition.get("lastTransitionTime"), advice)
    return tuple(found.values())


def _is_bad(condition: Mapping[str, Any]) -> bool:
    if condition["reason"] in _WISHED:
        return False
    return condition["status"] in _BAD.get(condition["type"], ()) or condition["reason"] in _BAD_REASONS
