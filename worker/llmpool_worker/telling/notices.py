"""Notifications: final failures and breakers, at most one a while for each (queue, code), with a count of the rest."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from llmpool_contract.tasks import end_tasks

from .documents import document, timestamp
from .events import BreakerChange, JobEvent
from .outbox import Counted, Delivery, Outbox, Sink
from .webhook import DELIVERY, Letter

MAX_KEYS = 256
"""What is told apart at one time; beyond it things are told together."""

Key = tuple[str, str]
OTHER: Key = ("other", "other")
_OF_JOBS = ("id", "handle", "queue", "code", "reason", "model", "type", "attempts", "tenant")


@dataclass(slots=True)
class Notice:
    """Things of one kind that happened since the last notice of that kind: how many, since when, and the latest."""

    type: str
    latest: dict[str, Any]
    first_at: float
    last_at: float
    count: int


class Coalescer:
    """Pure: ``now`` is monotonic seconds, ``at`` Unix seconds. The first of a kind is due at once."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._waiting: dict[Key, Notice] = {}
        self._told: dict[Key, float] = {}

    def add(self, key: Key, kind: str, latest: dict[str, Any], at: float, count: int = 1) -> None:
        """Something happened ``count`` times."""
        if key not in self._waiting and len(self._waiting.keys() | self._told.keys()) >= MAX_KEYS:
            key = OTHER
        notice = self._waiting.setdefault(key, Notice(kind, latest, at, at, 0))
        notice.type, notice.latest, notice.last_at = kind, latest, at
        notice.count += count

    def due(self, now: float) -> list[Notice]:
        """What may be told now. It counts as told."""
        self._told = {key: told for key, told in self._told.items() if now < told + self._interval_s}
        keys = [key for key in self._waiting if key not in self._told]
        self._told |= dict.fromkeys(keys, now)
        return [self._waiting.pop(key) for key in keys]

    def wait_s(self, now: float) -> float | None:
        """Until something is due; None: nothing waits."""
        due = [self._told.get(key, now - self._interval_s) + self._interval_s for key in self._waiting]
        return max(0.0, min(due) - now) if due else None

    def all(self) -> list[Notice]:
        """What waits, due or not: the worker ends."""
        notices = list(self._waiting.values())
        self._waiting.clear()
        return notices


class Notifier:
    """The hook, and who hears of breakers."""

    def __init__(
        self,
        sink: Sink[Letter],
        worker: str,
        pool: str,
        interval_s: float,
        counted: Counted,
        delivery: Delivery = DELIVERY,
    ) -> None:
        self.outbox = Outbox(sink, counted, delivery)
        self._from = {"worker": worker, "pool": pool}
        self._coalescer = Coalescer(interval_s)
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __call__(self, event: JobEvent) -> None:
        """A job that failed for good is news."""
        if event.outcome == "failed":
            whole = document(event)
            latest = {name: whole[name] for name in _OF_JOBS if name in whole}
            self._add((event.queue, event.code or ""), "llmpool.job.failed", latest, event.ended_at)

    def buried_unread(self, queue: str, count: int) -> None:
        """Bodies that were too large to read became dead letters: no event tells of them."""
        latest = {"queue": queue, "code": "too_large"}
        self._add((queue, "too_large"), "llmpool.job.failed", latest, time.time(), count)

    def breaker_changed(self, change: BreakerChange) -> None:
        """Opened and closed are news, the trial between them isn't."""
        if change.state != "half_open":
            told = {"model": change.model, "failure_ratio": change.failure_ratio}
            latest = {name: value for name, value in told.items() if value is not None}
            self._add(("breaker", change.model or ""), f"llmpool.breaker.{change.state}", latest, change.at)

    def start(self) -> None:
        """Begin to tell. Needs a running loop."""
        self.outbox.start()
        self._task = asyncio.create_task(self._run(), name="notices")

    async def aclose(self, timeout_s: float) -> None:
        """Tell what still waits, within ``timeout_s``."""
        if self._task is not None:
            await end_tasks([self._task])
        for notice in self._coalescer.all():
            self._put(notice)
        await self.outbox.aclose(timeout_s)

    def _add(self, key: Key, kind: str, latest: dict[str, Any], at: float, count: int = 1) -> None:
        self._coalescer.add(key, kind, latest, at, count)
        self._news.set()

    async def _run(self) -> None:
        while True:
            self._news.clear()
            for notice in self._coalescer.due(time.monotonic()):
                self._put(notice)
            try:
                async with asyncio.timeout(self._coalescer.wait_s(time.monotonic())):
                    await self._news.wait()
            except TimeoutError:
                continue

    def _put(self, notice: Notice) -> None:
        """As Standard Webhooks has payloads: type, timestamp, data."""
        counted = {"count": notice.count, "first_at": timestamp(notice.first_at), "last_at": timestamp(notice.last_at)}
        data = self._from | counted | notice.latest
        self.outbox.put(Letter.of({"type": notice.type, "timestamp": timestamp(time.time()), "data": data}))
