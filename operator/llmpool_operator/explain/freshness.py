"""Whether somebody keeps a pool's status up. The status can't say so itself: it is written only when it changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llmpool_contract.labels import MANAGER
from llmpool_operator.decide.types import Missing

from .page import Freshness
from .times import ago, seconds_of, span

_RECENT = 300.0
"""Seconds for which a status tells that somebody is at work, whatever the Lease that was found says."""
_LEASE = 15.0
"""Seconds that a Lease lasts by default: one that was given back says 1."""
_NO_OPERATOR = "no operator has looked at this pool: see that one runs, and that its WATCH_NAMESPACE has this namespace"
_ONLY_WRITTEN = "this pool has never been in a cluster: there, an operator sizes it and writes a status"


@dataclass(frozen=True, slots=True)
class Leader:
    """The operators' Lease. Times are Unix seconds, ``duration`` seconds."""

    holder: str | None
    """None: it was given back."""
    renewed_at: float | None
    duration: float

    def is_alive(self, now: float) -> bool:
        """Whether its holder still renews it. Two clocks are compared: twice the duration is allowed."""
        return bool(self.holder) and self.renewed_at is not None and now - self.renewed_at <= 2 * self.duration

    def has_ended_by(self, at: float) -> bool:
        """Whether its last holder can't be who wrote something then. Of two clocks, likewise."""
        return self.renewed_at is None or at - self.renewed_at > 2 * max(self.duration, _LEASE)


def freshness(pool: Mapping[str, Any], leader: Leader | Missing | None, now: float) -> Freshness:
    """From the object's own times, and from the Lease where there is one."""
    status = pool.get("status") or {}
    written = max(_write_times(pool, status), default=None)
    age = None if written is None else max(0.0, now - written[0])
    alive = leader.is_alive(now) if isinstance(leader, Leader) else None
    sentence, stale = _judge(pool, status, leader, alive, now, age)
    return Freshness(
        sentence=sentence,
        stale=stale,
        written_at=None if written is None else written[1],
        age_seconds=None if age is None else round(age, 3),
        operator=leader.holder if isinstance(leader, Leader) else None,
    )


def _judge(
    pool: Mapping[str, Any],
    status: Mapping[str, Any],
    leader: Leader | Missing | None,
    alive: bool | None,
    now: float,
    age: float | None,
) -> tuple[str, bool]:
    outlived = isinstance(leader, Leader) and age is not None and age <= _RECENT and leader.has_ended_by(now - age)
    if isinstance(leader, Leader) and not alive and not outlived:
        return _dead(leader, now), True
    if not status and leader is None and not pool["metadata"].get("uid"):
        return _ONLY_WRITTEN, True
    if not status:
        return _NO_OPERATOR, True
    written = "the status has no time" if age is None else f"the status was written {ago(age)}"
    behind = _behind(pool, status)
    if behind:
        return f"{written}, {behind}", True
    if isinstance(leader, Leader) and not alive:
        return (
            f"{written}, by another operator than the Lease tells of: whether it still keeps it up can't be told",
            False,
        )
    if isinstance(leader, Leader):
        return f"{written}, and is as operator {leader.holder} sees it now: it writes what changes", False
    if isinstance(leader, Missing):
        return f"{written}; whether an operator still keeps it up can't be told: {leader.reason}", False
    return written, False


def _dead(leader: Leader, now: float) -> str:
    if leader.renewed_at is None or not leader.holder:
        return "STALE: no operator holds the Lease: nobody sizes this pool now, the rest is what the last one left"
    since = span(now - leader.renewed_at)
    return (
        f"STALE: operator {leader.holder} has not renewed its Lease for {since}: nobody sizes this pool now, "
        "the rest is what it left"
    )


def _behind(pool: Mapping[str, Any], status: Mapping[str, Any]) -> str:
    """A spec that was changed and not looked at since."""
    wanted, seen = pool["metadata"].get("generation"), status.get("observedGeneration")
    if wanted is None or seen is None or seen >= wanted:
        return ""
    return f"STALE: the spec is of generation {wanted}, and the operator has seen {seen}"


def _write_times(pool: Mapping[str, Any], status: Mapping[str, Any]) -> Iterator[tuple[float, str]]:
    """What tells of a write: the API server's own note, where it is shown, and the times in the status."""
    told: list[Any] = [(status.get("decision") or {}).get("at"), status.get("lastScaleTime")]
    told += [condition.get("lastTransitionTime") for condition in status.get("conditions") or ()]
    told += [
        entry.get("time")
        for entry in pool["metadata"].get("managedFields") or ()
        if entry.get("manager") == MANAGER and entry.get("subresource") == "status"
    ]
    for text in told:
        if (seconds := seconds_of(text)) is not None:
            yield seconds, text
