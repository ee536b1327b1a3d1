"""Processing metrics for an analytics service: how many jobs came to what, and a sample of them in detail."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

from llmpool_contract.tasks import end_tasks

from .documents import NOT_NEWS, document, timestamp
from .events import JobEvent
from .outbox import Counted, Delivery, Outbox, Sink
from .sampling import is_sampled
from .webhook import Letter

MAX_JOBS = 1_000
"""Jobs of one batch; with the next one a new batch begins early."""
DELIVERY = Delivery(capacity=20, batch=1, attempts=5, backoff_s=1.0, backoff_max_s=10.0)


class Batch:
    """What happened since the last batch. Pure."""

    def __init__(self, share: float, began_at: float) -> None:
        self._share, self._began_at = share, began_at
        self._counts: Counter[tuple[str, str]] = Counter()
        self._jobs: list[dict[str, Any]] = []

    def add(self, event: JobEvent) -> None:
        """Count it, and keep it if it is one of the sample."""
        self._counts[event.queue, event.outcome] += 1
        if event.outcome not in NOT_NEWS and is_sampled(event.job_id, self._share):
            self._jobs.append(document(event))

    @property
    def empty(self) -> bool:
        """Nothing to tell."""
        return not self._counts

    @property
    def full(self) -> bool:
        """No more jobs should be added."""
        return len(self._jobs) >= MAX_JOBS

    def document(self, until: float) -> dict[str, Any]:
        """All of it; ``counts`` are of all jobs, ``jobs`` of the sample."""
        counts = [{"queue": q, "outcome": o, "jobs": n} for (q, o), n in sorted(self._counts.items())]
        return {
            "from": timestamp(self._began_at),
            "to": timestamp(until),
            "sample_rate": self._share,
            "counts": counts,
            "jobs": self._jobs,
        }


class Analytics:
    """The hook."""

    def __init__(
        self,
        sink: Sink[Letter],
        worker: str,
        pool: str,
        share: float,
        interval_s: float,
        counted: Counted,
        delivery: Delivery = DELIVERY,
    ) -> None:
        self.outbox = Outbox(sink, counted, delivery)
        self._from = {"worker": worker, "pool": pool}
        self._share, self._interval_s = share, interval_s
        self._batch = Batch(share, time.time())
        self._task: asyncio.Task[None] | None = None

    def __call__(self, event: JobEvent) -> None:
        """Add it to the batch."""
        self._batch.add(event)
        if self._batch.full:
            self.roll()

    def start(self) -> None:
        """Begin to tell. Needs a running loop."""
        self.outbox.start()
        self._task = asyncio.create_task(self._run(), name="analytics")

    async def aclose(self, timeout_s: float) -> None:
        """Tell what there is, within ``timeout_s``."""
        if self._task is not None:
            await end_tasks([self._task])
        self.roll()
        await self.outbox.aclose(timeout_s)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            self.roll()

    def roll(self) -> None:
        """Queue the batch, if there is anything in it, and begin the next."""
        now = time.time()
        if not self._batch.empty:
            data = self._from | self._batch.document(now)
            self.outbox.put(Letter.of({"type": "llmpool.analytics", "timestamp": timestamp(now), "data": data}))
        self._batch = Batch(self._share, now)
