"""The asynchronous client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self

from llmpool_contract import Job, Priority, QueueKeys, Result
from llmpool_contract.keys import DEFAULT_QUEUES

from .batches import Batches
from .connection import Connections
from .dead import DeadLetters
from .durability import Durability
from .errors import UnknownJob, redis_errors
from .prepare import Prepared
from .queues import QueueState, limit_queue, read_queue, redis_now_ms
from .refs import JobRef
from .scripts import LOOK
from .settled import TURN_S, SettledEvents
from .status import JobStatus, job_status, read_result
from .streaming import BLOCK_S, StreamEvent, stream_events
from .submitting import Submitter, Terms, prepare_now
from .waiting import wait_for_result
from .why import FactFinder, JobFacts
from .workers import PoolWorkers, find_pools, read_workers

CANCEL_TTL_S = 86_400
"""Life of a wish to cancel, s: longer than a job may run."""


class Client:
    """Submits jobs to one Redis and follows them. Use it as an async context manager, in one event loop.

    Where a method takes a job, it takes the :class:`JobRef` of ``submit``, or an id and its ``queue``; without a queue
    the id is looked for in the default ones. Each method may raise QueueUnavailable and QueueRefused.
    """

    def __init__(self, url: str, *, max_queued: int | None = None, durable: Durability | None = None) -> None:
        """``max_queued``: no submit of this client lets more jobs than that wait in a queue. ``durable``: each submit
        returns when Redis has confirmed so much."""
        self._terms = Terms(max_queued, durable)
        self._connections = Connections(url)
        self._redis = self._connections.commands
        self._submitter = Submitter(self._redis)
        self._look = self._redis.register_script(LOOK)
        self._finder = FactFinder(self._redis)
        self._settled = SettledEvents(self._connections.dedicated(TURN_S))
        self.batches = Batches(self._connections)
        """Files of requests in OpenAI's Batch format."""

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Connect to ``redis://``, ``rediss://`` or ``unix://`` on first use."""
        return cls(url)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _err: BaseException | None, _tb: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def address(self) -> str:
        """Where Redis is, without credentials."""
        return self._connections.address

    async def aclose(self) -> None:
        """Close all connections."""
        await self._settled.aclose()
        await self._connections.aclose()

    async def submit(
        self,
        job: Job | Mapping[str, Any] | None = None,
        *,
        queue: str | None = None,
        priority: Priority = "normal",
        max_queued: int | None = None,
        durable: Durability | None = None,
        **fields: Any,
    ) -> JobRef:
        """Check a job and push it; ``fields`` are a job's own and win over ``job``.

        The queue is that of the job's type unless given. A repeat with the same id pushes nothing. ``max_queued``
        and ``durable`` are in place of the client's own.

        Raises:
            BadJob, BadName: nothing was sent.
            QueueFull: nothing was pushed.
            NotDurable: it is pushed, and may not survive; DurabilityUnavailable: nothing was pushed.
        """
        terms = self._terms.instead(max_queued, durable)
        return (await self._push([prepare_now(job, fields, queue, priority)], terms))[0]

    async def submit_many(
        self,
        jobs: Iterable[Job | Mapping[str, Any]],
        *,
        queue: str | None = None,
        priority: Priority = "normal",
        max_queued: int | None = None,
        durable: Durability | None = None,
    ) -> list[JobRef]:
        """Check all jobs, then push them in few round trips; the answers are in the jobs' order.

        Where Redis fails halfway, some are pushed. Give the jobs ids, and the whole call may be repeated.

        Raises:
            BadJob, BadName: nothing was sent.
            QueueFull, NotDurable: at the first 200 jobs or less that don't fit, or aren't confirmed; the error says
                what is pushed.
            DurabilityUnavailable: nothing was pushed.
        """
        prepared = [prepare_now(job, {}, queue, priority) for job in jobs]
        return await self._push(prepared, self._terms.instead(max_queued, durable))

    async def result(self, job: JobRef | str, *, queue: str | None = None, timeout: float | None = None) -> Result:
        """Wait for the result, up to ``timeout`` seconds (None: as long as it takes; 0: look once).

        Raises:
            ResultTimeout: the job goes on.
            UnknownJob: no queue was given, and none of the default ones knows the id.
        """
        job_id, keys = await self._locate(job, queue)
        return await self._connections.ask(wait_for_result(self._redis, self._settled, keys, job_id, timeout))

    async def stream(
        self, job: JobRef | str, *, queue: str | None = None, timeout: float | None = None
    ) -> AsyncGenerator[StreamEvent, None]:
        """Yield the answer as it comes, from its beginning; the last event is ``End`` with the result.

        Leave the loop early only under ``contextlib.aclosing``: each stream has a connection of its own.

        Raises:
            ResultTimeout, UnknownJob: as ``result``.
        """
        job_id, keys = await self._locate(job, queue)
        reader = self._connections.dedicated(BLOCK_S)
        async with aclosing(reader):
            with redis_errors(self.address):
                async for event in stream_events(self._redis, reader, keys, job_id, timeout):
                    yield event

    async def chat(
        self, model: str, text: str | Sequence[Mapping[str, Any]], *, timeout: float | None = None, **fields: Any
    ) -> Result:
        """Submit a chat job of one user's message (or of whole messages) and wait for its result."""
        messages = [{"role": "user", "content": text}] if isinstance(text, str) else list(text)
        ref = await self.submit(type="chat", model=model, messages=messages, **fields)
        return await self.result(ref, timeout=timeout)

    async def status(self, job: JobRef | str, *, queue: str | None = None) -> JobStatus:
        """Where the job stands. UNKNOWN is an answer here, not an error."""
        try:
            job_id, keys = await self._locate(job, queue)
        except UnknownJob:
            return JobStatus.UNKNOWN
        return await self._status(keys, job_id, cancel_ttl_s=0)

    async def why(self, job: JobRef | str, *, queue: str | None = None, pool: str | None = None) -> JobFacts:
        """Everything known of a job as of one moment: where it is, what it waits for, what its last error was.

        Unlike the others this also finds a job that was pushed without this client, if it is among the first 10,000
        of its queue. ``pool`` (``namespace/name``) adds what that pool's workers report.
        """
        job_id = job.id if isinstance(job, JobRef) else job
        named = job.queue if isinstance(job, JobRef) else queue
        queues = [QueueKeys(name) for name in ((named,) if named is not None else DEFAULT_QUEUES)]
        return await self._connections.ask(self._finder.look(job_id, queues, pool))

    async def cancel(self, job: JobRef | str, *, queue: str | None = None) -> JobStatus:
        """Wish a job cancelled, queued or running. Returns how it stood: one that has ended stays as it ended."""
        job_id, keys = await self._locate(job, queue)
        return await self._status(keys, job_id, cancel_ttl_s=CANCEL_TTL_S)

    async def queues(self, names: Iterable[str] = tuple(DEFAULT_QUEUES)) -> list[QueueState]:
        """What is in these queues now."""
        return [await self._connections.ask(read_queue(self._redis, QueueKeys(name))) for name in names]

    async def workers(self, pool: str) -> PoolWorkers:
        """What the workers of a pool (``namespace/name``) say of themselves now."""
        return await self._connections.ask(read_workers(self._redis, pool, await self.now_ms()))

    async def pools(self) -> list[str]:
        """The pools that workers report to in this Redis, ``namespace/name``."""
        return await self._connections.ask(find_pools(self._redis))

    async def limit_queue(self, queue: str, max_queued: int | None) -> None:
        """Set the most jobs that any client may let wait in a queue; None lifts the limit."""
        await self._connections.ask(limit_queue(self._redis, QueueKeys(queue), max_queued))

    def dead_letters(self, queue: str) -> DeadLetters:
        """One queue's dead letters."""
        return DeadLetters(self._connections, queue)

    async def now_ms(self) -> int:
        """Unix ms by Redis' clock, which ``deadline`` is judged by."""
        return await self._connections.ask(redis_now_ms(self._redis))

    async def _push(self, jobs: Sequence[Prepared], terms: Terms) -> list[JobRef]:
        return await self._connections.ask(self._submitter.push(jobs, terms))

    async def _status(self, keys: QueueKeys, job_id: str, *, cancel_ttl_s: int) -> JobStatus:
        names = [keys.result(job_id), keys.id(job_id), keys.claimed, keys.cancel(job_id)]
        asked = self._look(keys=names, args=[cancel_ttl_s, keys.cancels, job_id])
        raw, mark, running = await self._connections.ask(asked)
        result = None if raw is None else read_result(raw, job_id)
        return job_status(result, mark, claimed=bool(running))

    async def _locate(self, job: JobRef | str, queue: str | None) -> tuple[str, QueueKeys]:
        if isinstance(job, JobRef):
            return job.id, QueueKeys(job.queue)
        if queue is not None:
            return job, QueueKeys(queue)
        for keys in map(QueueKeys, DEFAULT_QUEUES):
            if await self._connections.ask(self._redis.exists(keys.result(job), keys.id(job))):
                return job, keys
        looked = ", ".join(DEFAULT_QUEUES)
        raise UnknownJob(f"job {job}: not known in {looked}; name its queue if it was pushed without this client")
