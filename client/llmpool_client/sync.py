"""The same client for programs without an event loop: the asynchronous one on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from llmpool_contract import Job, Priority, Result
from llmpool_contract.keys import DEFAULT_QUEUES
from llmpool_contract.tasks import end_tasks

from .batches import SyncBatches
from .client import Client
from .durability import Durability
from .queues import QueueState
from .refs import JobRef
from .status import JobStatus
from .stepping import Steps
from .streaming import StreamEvent
from .why import JobFacts
from .workers import PoolWorkers

T = TypeVar("T")


class SyncClient:
    """:class:`Client` with plain calls; see there. Safe to share between threads; not across a fork."""

    def __init__(self, url: str, *, max_queued: int | None = None, durable: Durability | None = None) -> None:
        self._client = Client(url, max_queued=max_queued, durable=durable)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="llmpool-client", daemon=True)
        self._thread.start()
        self.batches = SyncBatches(self._client.batches, self._run)
        """Files of requests in OpenAI's Batch format."""

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Connect to ``redis://``, ``rediss://`` or ``unix://`` on first use."""
        return cls(url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _err: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self.close()

    @property
    def address(self) -> str:
        """Where Redis is, without credentials."""
        return self._client.address

    def close(self) -> None:
        """Close all connections and end the thread. A second call does nothing."""
        if self._loop.is_closed():
            return
        self._run(_shut_down(self._client))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def submit(
        self,
        job: Job | Mapping[str, Any] | None = None,
        *,
        queue: str | None = None,
        priority: Priority = "normal",
        max_queued: int | None = None,
        durable: Durability | None = None,
        **fields: Any,
    ) -> JobRef:
        """As :meth:`Client.submit`."""
        terms: dict[str, Any] = {"max_queued": max_queued, "durable": durable}
        return self._run(self._client.submit(job, queue=queue, priority=priority, **terms, **fields))

    def submit_many(
        self,
        jobs: Iterable[Job | Mapping[str, Any]],
        *,
        queue: str | None = None,
        priority: Priority = "normal",
        max_queued: int | None = None,
        durable: Durability | None = None,
    ) -> list[JobRef]:
        """As :meth:`Client.submit_many`."""
        terms: dict[str, Any] = {"max_queued": max_queued, "durable": durable}
        return self._run(self._client.submit_many(jobs, queue=queue, priority=priority, **terms))

    def result(self, job: JobRef | str, *, queue: str | None = None, timeout: float | None = None) -> Result:
        """As :meth:`Client.result`."""
        return self._run(self._client.result(job, queue=queue, timeout=timeout))

    def stream(
        self, job: JobRef | str, *, queue: str | None = None, timeout: float | None = None
    ) -> Iterator[StreamEvent]:
        """As :meth:`Client.stream`; leaving the loop early closes the stream."""
        events = Steps(self._client.stream(job, queue=queue, timeout=timeout))
        try:
            while (event := self._run(events.next())) is not None:
                yield event
        finally:
            self._run(events.close())

    def chat(
        self, model: str, text: str | Sequence[Mapping[str, Any]], *, timeout: float | None = None, **fields: Any
    ) -> Result:
        """As :meth:`Client.chat`."""
        return self._run(self._client.chat(model, text, timeout=timeout, **fields))

    def status(self, job: JobRef | str, *, queue: str | None = None) -> JobStatus:
        """As :meth:`Client.status`."""
        return self._run(self._client.status(job, queue=queue))

    def why(self, job: JobRef | str, *, queue: str | None = None, pool: str | None = None) -> JobFacts:
        """As :meth:`Client.why`."""
        return self._run(self._client.why(job, queue=queue, pool=pool))

    def cancel(self, job: JobRef | str, *, queue: str | None = None) -> JobStatus:
        """As :meth:`Client.cancel`."""
        return self._run(self._client.cancel(job, queue=queue))

    def queues(self, names: Iterable[str] = tuple(DEFAULT_QUEUES)) -> list[QueueState]:
        """As :meth:`Client.queues`."""
        return self._run(self._client.queues(names))

    def workers(self, pool: str) -> PoolWorkers:
        """As :meth:`Client.workers`."""
        return self._run(self._client.workers(pool))

    def pools(self) -> list[str]:
        """As :meth:`Client.pools`."""
        return self._run(self._client.pools())

    def limit_queue(self, queue: str, max_queued: int | None) -> None:
        """As :meth:`Client.limit_queue`."""
        self._run(self._client.limit_queue(queue, max_queued))

    def now_ms(self) -> int:
        """As :meth:`Client.now_ms`."""
        return self._run(self._client.now_ms())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()  # only undone work is: after Ctrl-C in this thread nothing goes on behind it


async def _shut_down(client: Client) -> None:
    await end_tasks(asyncio.all_tasks() - {asyncio.current_task()})  # what Ctrl-C or another thread left behind
    await client.aclose()
