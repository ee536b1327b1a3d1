"""Who leads, as a value: what a candidate knows of the Lease, and what follows from it. Pure; times are given.

The rules are client-go's: nobody compares clocks with anybody. A candidate judges another's lease by how long it has
itself seen it unchanged, and its own by how long ago it began the last renewal that was answered. A lease is taken
after ``lease`` seconds of the first kind and given up after ``deadline`` of the second, so that the two can't meet as
long as clocks run at about the same rate; how they are set doesn't matter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .kube import Object

_TENS = 10
"""Seconds for each step that time itself adds to a transition."""
_LONGEST_FOREIGN_LEASE = 300
"""Seconds that another's lease is waited for, whatever it says of itself."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Durations in seconds. In parts of the lease, which for 15 s gives client-go's proportions, a bit tighter."""

    lease: int = 15

    @property
    def renew(self) -> float:
        """From one renewal's beginning to the next."""
        return self.lease * 4 / 15

    @property
    def retry(self) -> float:
        """Between looks of one who stands by, and between attempts of one whose renewal failed."""
        return self.lease * 2 / 15

    @property
    def call(self) -> float:
        """What one call may take: a server that answers after 5 s is slow, not gone."""
        return self.lease * 6 / 15

    @property
    def deadline(self) -> float:
        """After the beginning of the last renewal that was answered, nothing is written any more."""
        return self.lease * 13 / 15


@dataclass(slots=True)
class Candidate:
    """One process' view. ``now`` is its own monotonic clock, ``wall`` Unix seconds for those who read the Lease."""

    identity: str
    terms: Terms
    lease: Object | None = None
    """As last seen; None: there is none, or nobody has looked yet."""
    transition: int = 0
    """The fencing number: rises with each new leader. 0: has never led."""
    until: float = float("-inf")
    """When this process stops leading unless it renews."""
    _seen: Object = field(default_factory=dict)
    """The spec as last seen. It outlives the lease's deletion, of which its holder may know nothing yet."""
    _seen_at: float = 0.0
    """When it was seen to change."""

    def leads(self, now: float) -> bool:
        """Whether this process may write."""
        return now < self.until

    def saw(self, lease: Object | None, now: float) -> None:
        """Take a lease as it was just read, or its absence."""
        self.lease = lease
        if lease is None:
            return
        if _record(_spec(lease)) != _record(self._seen):
            self._seen_at = now
        self._seen = _spec(lease)

    @property
    def holder(self) -> str:
        """Who holds it; empty: nobody, because it was given back."""
        return "" if self.lease is None else str(_spec(self.lease).get("holderIdentity") or "")

    @property
    def awaited(self) -> str:
        """Who held it when it was last there."""
        return str(self._seen.get("holderIdentity") or "")

    def free_in(self, now: float) -> float:
        """Seconds until it may be taken; 0 or less: now."""
        if self.awaited in ("", self.identity):
            return 0.0
        theirs = _number(self._seen, "leaseDurationSeconds") or self.terms.lease
        return self._seen_at + min(theirs, _LONGEST_FOREIGN_LEASE) - now

    def renewal_in(self, now: float) -> float:
        """Seconds until a renewal is due; negative where the last one took longer."""
        return self.until - self.terms.deadline + self.terms.renew - now

    def claim(self, wall: float) -> Object:
        """The Lease's spec that makes it this process', or keeps it so."""
        held = {} if self.lease is None else _spec(self.lease)
        ours = self.holder == self.identity
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self.terms.lease,
            "acquireTime": held.get("acquireTime") if ours else _micro_time(wall),
            "renewTime": _micro_time(wall),
            "leaseTransitions": self._next_transition(wall),
        }

    def _next_transition(self, wall: float) -> int:
        """Higher than any before, also where the Lease was deleted or the election was off for a while.

        What it fences remembers it for longer than a Lease need live. So it is not counted from 0 but at least the
        tens of seconds since 1970, which no series of leaders outruns.
        """
        before = _number(self._seen, "leaseTransitions")
        if self._seen.get("holderIdentity") == self.identity and before:
            return before  # a renewal; also where somebody deleted the lease under its leader, who puts it back
        return max(before + 1, first_transition(wall))

    def won(self, lease: Object, began: float) -> None:
        """A claim or a renewal, begun at ``began``, was answered with this lease."""
        self.saw(lease, began)
        self.transition = _number(_spec(lease), "leaseTransitions")
        self.until = began + self.terms.deadline

    def returned(self) -> Object:
        """The spec that gives it back: the next one need not wait."""
        return {"holderIdentity": "", "leaseDurationSeconds": 1}


def first_transition(wall: float) -> int:
    """The number of a leader that has no predecessor."""
    return int(wall // _TENS)


def _spec(lease: Object) -> Object:
    spec: Object = lease.get("spec") or {}
    return spec


def _record(spec: Object) -> tuple[Any, ...]:
    """What its holder writes; a label that somebody sets is no sign of life."""
    return tuple(spec.get(name) for name in ("holderIdentity", "acquireTime", "renewTime", "leaseTransitions"))


def _number(spec: Object, name: str) -> int:
    given = spec.get(name)
    return given if isinstance(given, int) and given > 0 else 0


def _micro_time(wall: float) -> str:
    """As the API writes a MicroTime."""
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
