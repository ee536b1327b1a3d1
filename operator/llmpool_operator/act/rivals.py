"""Who else changes a Deployment's size. Pure.

Once is somebody's hand; twice within ten minutes is another autoscaler. Two of them on one Deployment never come to
rest, so we stand aside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

QUIET = 600.0
"""Seconds: two changes within them make a rival, and so long without one it is none any more."""
UNKNOWN = "somebody"


@dataclass(frozen=True, slots=True)
class Rivals:
    """What is remembered of foreign changes. Times are Unix seconds."""

    changes: tuple[tuple[float, str], ...] = ()
    """(when, manager) of the last ``QUIET`` seconds, oldest first."""
    rival: str | None = None
    """Who makes us stand aside now."""

    def changed(self, manager: str, now: float) -> Rivals:
        """After one more foreign change."""
        before = self.at(now)
        again = any(by == manager for _, by in before.changes)
        return Rivals((*before.changes, (now, manager)), manager if again else before.rival)

    def at(self, now: float) -> Rivals:
        """What is left of it by now."""
        if not self.changes:
            return self
        recent = tuple((min(at, now), by) for at, by in self.changes if now - at < QUIET)
        still = any(by == self.rival for _, by in recent)
        return Rivals(recent, self.rival if still else None)


def scaler_of(deployment: Mapping[str, Any]) -> str:
    """The field manager that last set ``spec.replicas`` (an HPA is ``kube-controller-manager``)."""
    owners = [
        (entry.get("time") or "", entry.get("manager") or UNKNOWN)
        for entry in deployment["metadata"].get("managedFields") or ()
        if "f:replicas" in (entry.get("fieldsV1") or {}).get("f:spec", {})
    ]
    return max(owners)[1] if owners else UNKNOWN
