"""Looking at a batch's requests in Redis, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from llmpool_client.queues import redis_now_ms
from llmpool_client.status import JobStatus, job_status, read_result
from llmpool_contract import QueueKeys

from .counts import BatchStatus, RequestState, decide, request_state
from .errors import UnknownBatch
from .record import Batch, read_batch
from .scripts import LOOK

PAGE = 500
_ENDS = frozenset(status.value for status in JobStatus if status.is_end)
_LONGEST_STATUS = max(map(len, _ENDS)) + len('"')


@dataclass(frozen=True, slots=True)
class Listed:
    """One request as the batch's list has it."""

    custom_id: str
    fault: bytes | None
    """Why it can't be a job, JSON."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How one request stands, and how many bytes its result has."""

    state: RequestState
    size: int = 0


async def read_record(redis: Redis, keys: QueueKeys, batch_id: str) -> Batch | None:
    """The record as it is now."""
    key = keys.batch(batch_id)
    raw: Any = await redis.hgetall(key)
    return read_batch(raw, key) if raw else None


def lapsed(batch: Batch) -> UnknownBatch:
    """The error for a batch whose record is gone."""
    return UnknownBatch(f"batch {batch.id}: its record in {batch.queue} has lapsed")


class Watcher:
    """Sees how the requests of one batch stand."""

    def __init__(self, redis: Redis, batch: Batch) -> None:
        self._redis = redis
        self._batch = batch
        self._keys = QueueKeys(batch.queue)
        self._look = redis.register_script(LOOK)

    async def pages(self, start: int = 0) -> AsyncIterator[list[Listed]]:
        """The requests that are submitted, from the ``start``-th on, in the file's order."""
        ids, faults = self._keys.batch_ids(self._batch.id), self._keys.batch_faults(self._batch.id)
        while True:
            page: list[Any] = await self._redis.lrange(ids, start, start + PAGE - 1)
            if not page:
                return
            found: list[Any] = await self._redis.hmget(faults, page)
            yield [Listed(raw.decode(), fault) for raw, fault in zip(page, found, strict=True)]
            start += len(page)

    async def look(self, listed: Sequence[Listed]) -> list[Seen]:
        """How a page's requests stand, all at one moment."""
        job_ids = [self._batch.job_id(each.custom_id) for each in listed if each.fault is None]
        jobs = iter(await self._look_at(job_ids) if job_ids else ())
        return [next(jobs) if each.fault is None else Seen(RequestState.REFUSED) for each in listed]

    async def _look_at(self, job_ids: Sequence[str]) -> list[Seen]:
        names = [self._keys.claimed]
        for job_id in job_ids:
            names += [self._keys.result(job_id), self._keys.id(job_id)]
        answers = await self._look(keys=names, args=[len(_beginning(job_ids[0])) + _LONGEST_STATUS])
        return [await self._seen(job_id, *answer) for job_id, answer in zip(job_ids, answers, strict=True)]

    async def _seen(self, job_id: str, head: bytes | None, size: int, mark: bytes | None, running: int) -> Seen:
        if head is None:
            return Seen(request_state(job_status(None, mark, claimed=bool(running))))
        status = status_in(head, job_id)
        if status is None:  # a result that another program wrote: it may begin differently
            raw: Any = await self._redis.get(self._keys.result(job_id))
            status = JobStatus.UNKNOWN if raw is None else JobStatus(read_result(raw, job_id).status.value)
        return Seen(request_state(status), size)


def status_in(head: bytes, job_id: str) -> JobStatus | None:
    """The status in a result's first bytes: of 50,000 results one doesn't want the texts to count them."""
    beginning = _beginning(job_id)
    word = head[len(beginning) :].split(b'"')[0].decode("ascii", "replace")
    return JobStatus(word) if head.startswith(beginning) and word in _ENDS else None


def _beginning(job_id: str) -> bytes:
    return f'{{"id":"{job_id}","status":"'.encode()


class Survey:
    """Counts a batch, turn by turn. A request that has been seen to end isn't looked at again."""

    def __init__(self, redis: Redis, batch: Batch) -> None:
        self._redis = redis
        self._batch = batch
        self._watcher = Watcher(redis, batch)
        self._custom_ids: list[str] = []
        self._states: list[RequestState] = []

    async def turn(self) -> BatchStatus:
        """Look at all that is open or new.

        Raises:
            UnknownBatch: the record has lapsed.
        """
        batch = await read_record(self._redis, QueueKeys(self._batch.queue), self._batch.id)
        if batch is None:
            raise lapsed(self._batch)
        await self._look_again()
        async for page in self._watcher.pages(len(self._states)):
            self._states += [seen.state for seen in await self._watcher.look(page)]
            self._custom_ids += [each.custom_id for each in page]
        return decide(batch, self._states, await redis_now_ms(self._redis))

    async def _look_again(self) -> None:
        still = [n for n, state in enumerate(self._states) if not state.is_end]
        for at in range(0, len(still), PAGE):
            some = still[at : at + PAGE]
            seen = await self._watcher.look([Listed(self._custom_ids[n], None) for n in some])
            for n, each in zip(some, seen, strict=True):
                self._states[n] = each.state
