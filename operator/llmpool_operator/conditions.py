"""Conditions as Kubernetes writes them: a finding plus the time it last changed its mind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeAlias

from .decide.types import Finding

Condition: TypeAlias = dict[str, Any]
ORDER = (
    "Ready",
    "ScalingActive",
    "AbleToScale",
    "ScalingLimited",
    "MetricsAvailable",
    "ModelsReady",
    "Paused",
)
MAX_MESSAGE = 1_024
"""Characters of a condition's message; the API allows 32 KiB, a status should stay readable."""


def timestamp(at: float) -> str:
    """Unix seconds as the API writes times: UTC, whole seconds."""
    return _written(int(at))


@lru_cache(maxsize=256)
def _written(at: int) -> str:
    # Thousands of pools write the same few seconds.
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def merge(
    previous: Sequence[Condition], findings: Iterable[Finding], *, at: float, generation: int | None
) -> list[Condition]:
    """The conditions to write: ``lastTransitionTime`` moves only where the status does.

    Of two findings of one type the later counts. A condition that isn't found this time is kept: not looking is
    no news.
    """
    held = {condition["type"]: condition for condition in previous}
    for finding in {finding.type: finding for finding in findings}.values():
        old = held.get(finding.type)
        changed = old is None or old["status"] != finding.status
        held[finding.type] = {
            "type": finding.type,
            "status": finding.status,
            "reason": finding.reason,
            "message": finding.message[:MAX_MESSAGE],
            "lastTransitionTime": timestamp(at) if changed or old is None else old["lastTransitionTime"],
            **({} if generation is None else {"observedGeneration": generation}),
        }
    return sorted(held.values(), key=_rank)


def _rank(condition: Condition) -> tuple[int, str]:
    kind = condition["type"]
    return (ORDER.index(kind) if kind in ORDER else len(ORDER)), kind
