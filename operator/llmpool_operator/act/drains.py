"""Drains in progress. Each is a lease in the pool's config hash, by Redis' clock; what is remembered here is only since
when it holds without a gap. A process that finds drains of an earlier one counts them as begun when it first sees them:
a report of "drained" from before could be older than a gap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llmpool_contract import WorkerReport, WorkerState

LEASE_MS = 15_000
"""What a drain lasts without being renewed: so long after its operator's death a worker goes on."""
RENEW_BELOW_MS = 10_000
"""A drain with less than this left is renewed: not on each tick, and never close to its end."""


@dataclass(frozen=True, slots=True)
class Drain:
    """One worker's. Milliseconds by Redis' clock."""

    since_ms: int
    """Since when it holds without a gap, as far as this process knows."""
    until_ms: int


Drains = Mapping[str, Drain]
"""Worker -> its drain."""


def seen(known: Drains, config: Mapping[str, int], redis_ms: int) -> dict[str, Drain]:
    """The drains that hold now, of those in a config hash that was read at ``redis_ms``."""
    return {
        worker: Drain(known[worker].since_ms if worker in known else redis_ms, until)
        for worker, until in config.items()
        if until > redis_ms
    }


def told(known: Drains, hold: Mapping[str, int], release: tuple[str, ...], now_ms: int) -> dict[str, Drain]:
    """The drains after a write at ``now_ms`` that set ``hold`` (worker -> end) and took away ``release``."""
    after = {worker: drain for worker, drain in known.items() if worker not in release}
    for worker, until in hold.items():
        held = after.get(worker)
        # One that lapsed before it was renewed has a gap, in which the worker may have taken jobs.
        since = held.since_ms if held is not None and held.until_ms > now_ms else now_ms
        after[worker] = Drain(since, until)
    return after


def is_drained(drain: Drain, report: WorkerReport | None) -> bool:
    """Whether the worker has said that it holds nothing, after the drain began. ``report`` is a fresh one, or none."""
    return report is not None and report.state is WorkerState.DRAINED and report.at_ms >= drain.since_ms


def is_given_up(drain: Drain, redis_ms: int, patience_ms: int) -> bool:
    """Whether it has lasted for as long as a worker gets: its pod may go, and SIGTERM gives its jobs back."""
    return redis_ms - drain.since_ms >= patience_ms
