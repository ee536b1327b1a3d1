"""What a slow listener is told: kept in a bounded queue, sent by a task of its own, dropped and counted beyond."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, Protocol, TypeVar

import structlog

from llmpool_contract.tasks import end_tasks

log = structlog.get_logger()

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

CLOSE_S = 2.0
"""What a listener's own closing may take beyond the flush, seconds."""


class SendFailed(Exception):
    """A batch, or the last ``left`` of it, was not taken. ``final``: it never will be. The text names no secret."""

    def __init__(self, reason: str, *, left: int | None = None, final: bool = False) -> None:
        super().__init__(reason)
        self.left, self.final = left, final


class Sink(Protocol[T_contra]):
    """Who is told."""

    name: str

    async def send(self, batch: Sequence[T_contra]) -> None:
        """All of it or SendFailed."""

    async def aclose(self) -> None:
        """Let go of connections."""


Counted = Callable[[str, str, int], None]
"""(sink, ``sent``, ``failed`` or ``dropped``, how many). ``failed`` counts tries, the others items."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """How hard to try. Waits double from the first, with full jitter."""

    capacity: int = 10_000
    batch: int = 200
    attempts: int | None = None
    """For one batch; None: until it is taken."""
    backoff_s: float = 0.5
    backoff_max_s: float = 30.0

    def wait_s(self, failures: int, chance: float) -> float:
        """Before the next try, after so many in a row. ``chance``: uniform in [0, 1)."""
        return float(chance * min(self.backoff_max_s, self.backoff_s * 2 ** min(failures - 1, 40)))


class Outbox(Generic[T]):
    """One sink's queue. :meth:`put` never waits and never fails."""

    def __init__(self, sink: Sink[T], counted: Counted, delivery: Delivery | None = None) -> None:
        self._sink, self._counted, self._delivery = sink, counted, delivery or Delivery()
        self._waiting: deque[T] = deque()  # what is being sent stays at its head until it is taken
        self._news, self._closing = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failures, self._tries = 0, 0  # in a row, and of them those for the batch at the head
        self.dropped = 0

    @property
    def name(self) -> str:
        """The sink's."""
        return self._sink.name

    def put(self, item: T) -> None:
        """Send it soon. Full: it is dropped, since the jobs that make news must never wait for those who read it."""
        if len(self._waiting) >= self._delivery.capacity:
            self._drop(1)
            return
        self._waiting.append(item)
        self._news.set()

    def start(self) -> None:
        """Begin to send. Needs a running loop."""
        self._task = asyncio.create_task(self._run(), name=f"outbox {self._sink.name}")

    async def aclose(self, timeout_s: float) -> None:
        """Send what waits, once and within ``timeout_s``, and end. What is left is counted as dropped."""
        self._closing.set()
        self._news.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=timeout_s)
            await end_tasks([self._task])
        self._drop(len(self._waiting))
        self._waiting.clear()
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._sink.aclose()
        except Exception as error:  # noqa: BLE001 - see below
            # A listener's library may say goodbye in any way: the worker ends as it would have without it.
            log.warning("telling_unclosed", sink=self._sink.name, error=type(error).__name__)

    def state(self) -> dict[str, int | bool]:
        """For /health."""
        return {"waiting": len(self._waiting), "dropped": self.dropped, "failing": self._failures > 0}

    async def _run(self) -> None:
        while self._waiting or not self._closing.is_set():
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                await self._turn()

    async def _turn(self) -> None:
        """One try for what waits, and the wait that a failure costs."""
        batch = list(islice(self._waiting, self._delivery.batch))
        try:
            await self._sink.send(batch)
        except SendFailed as failed:
            left = len(batch) if failed.left is None else failed.left
            self._taken(len(batch) - left)
            await self._failed(left, str(failed), final=failed.final)
        except Exception as error:  # noqa: BLE001 - see below
            # A bug, or an error that a listener's library never told of: what it was to send may be at fault.
            await self._failed(len(batch), type(error).__name__, final=True)
        else:
            self._taken(len(batch))
            if self._failures:
                log.info("telling_works_again", sink=self._sink.name, failures=self._failures, dropped=self.dropped)
            self._failures = self._tries = 0

    async def _failed(self, left: int, reason: str, *, final: bool) -> None:
        self._failures += 1
        self._tries += 1
        self._counted(self._sink.name, "failed", 1)
        if self._failures == 1:  # told once: how often since is the counter's, and the line's when it works again
            log.warning("telling_failed", sink=self._sink.name, error=reason[:200])
        attempts = self._delivery.attempts
        used_up = attempts is not None and self._tries >= attempts
        if final or used_up or self._closing.is_set():
            self._forget(left)
            self._drop(left)
            self._tries = 0
        if not self._closing.is_set():
            await self._pause(self._delivery.wait_s(self._failures, random.random()))

    async def _pause(self, seconds: float) -> None:
        """Cut short by the end, which asks for one last try."""
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            pass

    def _taken(self, count: int) -> None:
        self._forget(count)
        if count:
            self._counted(self._sink.name, "sent", count)

    def _forget(self, count: int) -> None:
        for _ in range(count):
            self._waiting.popleft()

    def _drop(self, count: int) -> None:
        if count:
            self.dropped += count
            self._counted(self._sink.name, "dropped", count)
