"""The same client for programs without an event loop: the asynchronous one on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from llmpool_contract import Job, Priority, Result
from llmpool_contract.keys import DEFAULT_QUEUES
from llmpool_contract.tasks import end_tasks

from .client import Client
from .queues import QueueState
from .status import JobStatus
from .streaming import StreamEvent
from .submitting import JobRef

T = TypeVar("T")


class SyncClient:
    """:class:`Client` with plain calls; see there. Safe to share between threads; not across a fork."""

    def __init__(self, url: str) -> None:
        self._client = Client(url)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="llmpool-client", daemon=True)
        self._thread.start()

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
        **fields: Any,
    ) -> JobRef:
        """As :meth:`Client.submit`."""
        return self._run(self._client.submit(job, queue=queue, priority=priority, **fields))

    def submit_many(
        self, jobs: Iterable[Job | Mapping[str, Any]], *, queue: str | None = None, priority: Priority = "normal"
    ) -> list[JobRef]:
        """As :meth:`Client.submit_many`."""
        return self._run(self._client.submit_many(jobs, queue=queue, priority=priority))

    def result(self, job: JobRef | str, *, queue: str | None = None, timeout: float | None = None) -> Result:
        """As :meth:`Client.result`."""
        return self._run(self._client.result(job, queue=queue, timeout=timeout))

    def stream(
        self, job: JobRef | str, *, queue: str | None = None, timeout: float | None = None
    ) -> Iterator[StreamEvent]:
        """As :meth:`Client.stream`; leaving the loop early closes the stream."""
        events = _Events(self._client.stream(job, queue=queue, timeout=timeout))
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

    def cancel(self, job: JobRef | str, *, queue: str | None = None) -> JobStatus:
        """As :meth:`Client.cancel`."""
        return self._run(self._client.cancel(job, queue=queue))

    def queues(self, names: Iterable[str] = tuple(DEFAULT_QUEUES)) -> list[QueueState]:
        """As :meth:`Client.queues`."""
        return self._run(self._client.queues(names))

    def now_ms(self) -> int:
        """As :meth:`Client.now_ms`."""
        return self._run(self._client.now_ms())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()  # only undone work is: after Ctrl-C in this thread nothing goes on behind it


class _Events:
    """A stream whose interrupted step has ended before the stream is closed."""

    def __init__(self, events: AsyncGenerator[StreamEvent, None]) -> None:
        self._events = events
        self._step: asyncio.Task[Any] | None = None

    async def next(self) -> StreamEvent | None:
        self._step = asyncio.current_task()
        return await anext(self._events, None)

    async def close(self) -> None:
        if self._step is not None:
            await end_tasks([self._step])
        await self._events.aclose()


async def _shut_down(client: Client) -> None:
    await end_tasks(asyncio.all_tasks() - {asyncio.current_task()})  # what Ctrl-C or another thread left behind
    await client.aclose()
