"""To zero and from zero. HPA has no such rules: this part is ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from llmpool_contract.pool import Queue, Scaling

from .types import History, Missing, Observation


def has_work(queues: Sequence[Queue], seen: Observation) -> bool:
    """Whether any queue is known to have a job. What isn't known doesn't count."""
    readings = (seen.queues.get(queue.name) for queue in queues)
    return any(not isinstance(reading, Missing) and reading is not None and reading.work > 0 for reading in readings)


def is_known_empty(queues: Sequence[Queue], seen: Observation) -> bool:
    """Whether every queue is known, and none has a job."""
    readings = [seen.queues.get(queue.name) for queue in queues]
    return all(reading is not None and not isinstance(reading, Missing) and reading.work == 0 for reading in readings)


def watch_emptiness(history: History, queues: Sequence[Queue], seen: Observation) -> History:
    """Start, keep or end the time of known emptiness. A reading that is missing ends it: nobody knows what came by."""
    if not is_known_empty(queues, seen):
        return replace(history, empty_since=None)
    if history.empty_since is None or history.empty_since > seen.at:  # the latter: the clock was set back
        return replace(history, empty_since=seen.at)
    return history


def is_idle(scaling: Scaling, queues: Sequence[Queue], seen: Observation, history: History, now: float) -> bool:
    """Whether the pool may go to zero: known to be empty for ``idleSeconds``, and nothing due within as long."""
    if scaling.min_replicas > 0 or history.empty_since is None:
        return False
    if now - history.empty_since < scaling.idle_seconds:
        return False
    return not any(_due_within(seen, queue, scaling.idle_seconds) for queue in queues)


def _due_within(seen: Observation, queue: Queue, seconds: float) -> bool:
    reading = seen.queues.get(queue.name)
    if reading is None or isinstance(reading, Missing):
        return True
    return reading.next_due_in is not None and reading.next_due_in <= seconds
