"""To zero and from zero. HPA has no such rules: this part is ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from llmpool_contract.pool import Queue, Scaling

from .types import Backlog, Bounds, History, MetricProposal, Observation, QueueBacklog


def backlog_of(queues: Sequence[Queue], seen: Observation, idle_seconds: float) -> Backlog:
    """What is known of all queues together. One that isn't known has no work, isn't empty, and may have a job due."""
    read = [seen.queues.get(queue.name) for queue in queues]
    known = [reading for reading in read if isinstance(reading, QueueBacklog)]
    all_known = len(known) == len(read)
    return Backlog(
        work=any(reading.work > 0 for reading in known),
        empty=all_known and all(reading.work == 0 for reading in known),
        due_soon=not all_known or any(_is_due_within(reading, idle_seconds) for reading in known),
    )


def _is_due_within(reading: QueueBacklog, seconds: float) -> bool:
    return reading.next_due_in is not None and reading.next_due_in <= seconds


def watch_emptiness(history: History, backlog: Backlog, at: float) -> History:
    """Start, keep or end the time of known emptiness. A reading that is missing ends it: nobody knows what came by.

    ``at`` is when the queues were read, Unix seconds.
    """
    if not backlog.empty:
        return history if history.empty_since is None else replace(history, empty_since=None)
    if history.empty_since is None or history.empty_since > at:  # the latter: the clock was set back
        return replace(history, empty_since=at)
    return history


def is_idle(
    scaling: Scaling,
    bounds: Bounds,
    backlog: Backlog,
    proposals: Sequence[MetricProposal],
    history: History,
    now: float,
) -> bool:
    """Whether the pool may go to zero: known to be empty for ``idleSeconds``, and nothing due within as long.

    A query that asks for workers keeps them, and one that can't be read may: at zero it would ask for them again. The
    other metrics are about the queues, and an idle GPU is never quite at 0 %.
    """
    if bounds.lower > 0 or history.empty_since is None or backlog.due_soon:
        return False
    if any(p.type == "Prometheus" and (p.invalid or p.replicas) for p in proposals):
        return False
    return now - history.empty_since >= scaling.idle_seconds


def watch_blindness(history: History, proposals: Sequence[MetricProposal], now: float) -> History:
    """Start, keep or end the time in which no metric that has a say could be read."""
    asking = [proposal for proposal in proposals if proposal.asks]
    if not asking or not all(proposal.invalid for proposal in asking):
        return history if history.blind_since is None else replace(history, blind_since=None)
    if history.blind_since is None or history.blind_since > now:
        return replace(history, blind_since=now)
    return history


def fallback_size(scaling: Scaling, history: History, now: float) -> int | None:
    """The size to take without metrics. None: there is none, or it isn't time."""
    fallback = scaling.fallback
    if fallback is None or history.blind_since is None or now - history.blind_since < fallback.after_seconds:
        return None
    return fallback.replicas
