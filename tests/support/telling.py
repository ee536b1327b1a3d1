"""Events for tests of what is told, and counts of what became of it."""

from collections import Counter
from typing import Any

from llmpool_worker.telling import JobEvent


class Counts(Counter[str]):
    """What channels report of their deliveries, for all of them together."""

    def __call__(self, channel: str, outcome: str, count: int) -> None:
        self[outcome] += count


def event(**changes: Any) -> JobEvent:
    """A job that succeeded on its own model, changed as the test needs."""
    usual: dict[str, Any] = {
        "queue": "llm-chat",
        "job_id": "j1",
        "handle": "token:1",
        "outcome": "succeeded",
        "job_type": "chat",
        "model": "m",
        "running_s": 2.0,
        "worker": "w1",
        "ended_at": 1_700_000_000.0,
    }
    return JobEvent(**usual | changes)
