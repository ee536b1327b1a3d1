"""What a batch's requests came to, in the file's order and in bounded memory."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from llmpool_client.status import read_result
from llmpool_contract import JobError, QueueKeys, Result

from .counts import RequestState
from .record import Batch
from .survey import Listed, Seen, Watcher

FETCH_BYTES = 8 * 1_048_576
"""How much of results is fetched at once; a larger one comes alone."""

_WHY = {
    RequestState.CANCELLED: JobError(
        code="batch_cancelled", message="the request was cancelled before it was answered"
    ),
    RequestState.EXPIRED: JobError(code="batch_expired", message="the request was not run before its deadline"),
    RequestState.LOST: JobError(
        code="result_expired",
        message="lost: result expired; whether the request succeeded isn't known any more",
    ),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request's end, or that there is none yet."""

    custom_id: str
    job_id: str
    state: RequestState
    result: Result | None = None
    """Only of a request that succeeded."""
    error: JobError | None = None
    """Of one that ended otherwise."""


async def outcomes(redis: Redis, batch: Batch) -> AsyncGenerator[Outcome]:
    """Every request of the file that is submitted."""
    watcher = Watcher(redis, batch)
    async for page in watcher.pages():
        seen = await watcher.look(page)
        for part in _groups(seen):
            for outcome in await _fetch(redis, batch, page[part], seen[part]):
                yield outcome


async def _fetch(redis: Redis, batch: Batch, listed: Sequence[Listed], seen: Sequence[Seen]) -> list[Outcome]:
    keys = QueueKeys(batch.queue)
    sized = [batch.job_id(each.custom_id) for each, how in zip(listed, seen, strict=True) if how.size]
    found: list[Any] = await redis.mget([keys.result(job_id) for job_id in sized]) if sized else []
    results = dict(zip(sized, found, strict=True))
    return [
        _outcome(batch.job_id(each.custom_id), each, how.state, results.get(batch.job_id(each.custom_id)))
        for each, how in zip(listed, seen, strict=True)
    ]


def _outcome(job_id: str, listed: Listed, state: RequestState, raw: bytes | None) -> Outcome:
    result = None if raw is None else read_result(raw, job_id)
    if state is RequestState.REFUSED:
        return Outcome(listed.custom_id, job_id, state, error=_fault(listed.fault or b"{}"))
    if state in (RequestState.SUCCEEDED, RequestState.FAILED) and result is None:
        state = RequestState.LOST  # it lapsed since it was seen
    if state is RequestState.SUCCEEDED:
        return Outcome(listed.custom_id, job_id, state, result)
    error = result.error if result else None
    return Outcome(listed.custom_id, job_id, state, error=_WHY.get(state, error))


def _fault(raw: bytes) -> JobError:
    told = json.loads(raw)
    return JobError(code=told.get("code", "invalid"), message=told.get("message", ""))


def _groups(seen: Sequence[Seen]) -> Iterator[slice]:
    """Cut a page where its results grow too large to be fetched at once."""
    start, size = 0, 0
    for n, each in enumerate(seen):
        if n > start and size + each.size > FETCH_BYTES:
            yield slice(start, n)
            start, size = n, 0
        size += each.size
    yield slice(start, len(seen))
