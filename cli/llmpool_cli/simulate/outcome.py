"""What a run comes to, in numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .record import Record
from .trace import Trace

SHARES = (50, 95, 99)
"""Percentiles that are told."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One policy's run. Times in seconds."""

    policy: str
    jobs: int
    within_slo: float
    """Share of all jobs that began within the SLO, 0..1."""
    waits: tuple[float, ...]
    """From arrival to the first beginning, at each of :data:`SHARES`; of jobs that began."""
    turnarounds: tuple[float, ...]
    """From arrival to the end, likewise; of jobs that ended."""
    replica_hours: float
    """What the workers cost, from being asked for to being gone."""
    peak: int
    ups: int
    downs: int
    cut: int
    """Generations that the end of a worker cut off."""
    twice: int
    """Jobs that began more than once."""
    unfinished: int
    """Jobs that hadn't ended when the run was given up."""
    seconds: float
    """How long the run went on, in virtual time."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "policy": self.policy,
            "jobs": self.jobs,
            "started_within_slo_percent": round(self.within_slo * 100, 3),
            "wait_seconds": _named(self.waits),
            "turnaround_seconds": _named(self.turnarounds),
            "replica_hours": round(self.replica_hours, 4),
            "peak_replicas": self.peak,
            "scale_events": {"up": self.ups, "down": self.downs},
            "generations_cut": self.cut,
            "jobs_run_twice": self.twice,
            "jobs_unfinished": self.unfinished,
            "simulated_seconds": round(self.seconds, 3),
        }


def outcome_of(policy: str, trace: Trace, record: Record, slo: float) -> Outcome:
    """Sum a record up. ``slo``: seconds within which a job should begin."""
    waits = sorted(waits_of(trace, record))
    ends = zip(trace.arrivals, record.ended, strict=True)
    turnarounds = sorted(end - arrival for arrival, end in ends if not math.isnan(end))
    return Outcome(
        policy=policy,
        jobs=len(trace),
        within_slo=sum(wait <= slo for wait in waits) / len(trace),
        waits=tuple(percentile(waits, share) for share in SHARES),
        turnarounds=tuple(percentile(turnarounds, share) for share in SHARES),
        replica_hours=record.worker_seconds / 3600,
        peak=record.peak,
        ups=record.ups,
        downs=record.downs,
        cut=record.cuts,
        twice=sum(runs > 1 for runs in record.runs),
        unfinished=len(trace) - record.ended_jobs,
        seconds=record.finished_at,
    )


def waits_of(trace: Trace, record: Record) -> list[float]:
    """The waits of the jobs that began, by arrival."""
    begins = zip(trace.arrivals, record.started, strict=True)
    return [begin - arrival for arrival, begin in begins if not math.isnan(begin)]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the sorted values that at least ``share`` percent don't exceed. NaN: there is none."""
    return values[max(math.ceil(len(values) * share / 100), 1) - 1] if values else math.nan


def _named(values: tuple[float, ...]) -> dict[str, float | None]:
    return {
        f"p{share}": None if math.isnan(value) else round(value, 3) for share, value in zip(SHARES, values, strict=True)
    }
