"""Many jobs in few round trips."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from llmpool_contract import Job

from .durability import Durability, check_can_confirm, raise_unavailable
from .errors import NotDurable, QueueFull
from .prepare import Prepared, id_from, prepare
from .refs import JobRef
from .scripts import SUBMIT

__all__ = ["CHUNK_BYTES", "CHUNK_JOBS", "IDS_TTL_S", "NO_TERMS", "JobRef", "Submitter", "Terms", "prepare_now"]

IDS_TTL_S = 86_400
"""Life of the ids key of a job that isn't claimed yet, s: as long as a result lives by default."""
CHUNK_JOBS = 200
CHUNK_BYTES = 1_048_576
"""Bounds of one call: Redis serves nobody else while its script runs."""


@dataclass(frozen=True, slots=True)
class Terms:
    """On what a submit insists."""

    max_queued: int | None = None
    """Most jobs that may wait afterwards. None: the queue's own limit alone counts; of two, the smaller one."""
    durable: Durability | None = None
    """None: Redis' word that it has the job is enough."""

    def __post_init__(self) -> None:
        if self.max_queued is not None and not self.max_queued >= 0:
            raise ValueError(f"max_queued: got {self.max_queued!r}, wanted a number of jobs from 0, or None")

    def instead(self, max_queued: int | None, durable: Durability | None) -> Terms:
        """These terms, with what is given in place of their own."""
        return Terms(
            self.max_queued if max_queued is None else max_queued, self.durable if durable is None else durable
        )


NO_TERMS = Terms()


class Submitter:
    """Pushes prepared jobs. One atomic script per chunk, so a repeat after a lost reply pushes nothing twice."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._script = redis.register_script(SUBMIT)

    async def push(self, jobs: Sequence[Prepared], terms: Terms = NO_TERMS) -> list[JobRef]:
        """Push in order; the answers are in the same order.

        Raises:
            QueueFull: at the first chunk that doesn't fit; what was pushed before stays, and is named.
            NotDurable: at the first chunk that isn't confirmed in time; it is pushed, later ones aren't.
            DurabilityUnavailable: the server can't confirm; nothing was pushed, but for the jobs that it names.
        """
        if terms.durable is not None:
            await check_can_confirm(self._redis, terms.durable)
        refs: dict[int, JobRef] = {}
        for chunk in _chunks(jobs):
            before = _in_order(refs)
            pushed = await self._push([jobs[index] for index in chunk], terms)
            refs |= {index: ref for index, ref in zip(chunk, pushed.refs, strict=True) if ref is not None}
            of_chunk = [refs[index] for index in chunk if index in refs]
            if pushed.full is not None:
                length, limit = pushed.full
                refused = len({jobs[index].id for index in chunk if index not in refs})
                raise QueueFull(jobs[chunk[0]].keys.queue, length, limit, refused, _in_order(refs))
            if terms.durable is not None:
                _check_confirmed(terms.durable, pushed.waited, of_chunk, before)
        return [refs[index] for index in range(len(jobs))]

    async def _push(self, jobs: Sequence[Prepared], terms: Terms) -> _Pushed:
        keys = [jobs[0].list_name, jobs[0].keys.stats, *jobs[0].keys.ready, jobs[0].keys.delayed, jobs[0].keys.limits]
        for job in jobs:
            keys += [job.keys.result(job.id), job.keys.id(job.id)]
        args = [IDS_TTL_S, "" if terms.max_queued is None else terms.max_queued, *(job.body for job in jobs)]
        if terms.durable is None:
            answer, waited = await self._script(keys=keys, args=args), None
        else:
            answer, waited = await self._push_and_wait(keys, args, terms.durable)
        full, length, limit, found = answer
        refs = [_ref(job, how, refused=bool(full)) for job, how in zip(jobs, found, strict=True)]
        return _Pushed(refs, (length, limit) if full else None, waited)

    async def _push_and_wait(self, keys: list[str], args: list[Any], durable: Durability) -> tuple[Any, Any]:
        """Both on one connection, in one go: the wait is for the writes of its own connection.

        Sent again after a lost connection, it is again both: a wait alone, on a new connection, would confirm nothing
        and say yes. The script then finds its ids known and counts them, and that write comes after the first.
        """
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.eval(SUBMIT, len(keys), *keys, *args)
            pipe.execute_command(*durable.command(durable.timeout_ms))
            answer, waited = await pipe.execute(raise_on_error=False)
        if isinstance(answer, Exception):
            raise answer
        return answer, waited


@dataclass(frozen=True, slots=True)
class _Pushed:
    """What came of one chunk."""

    refs: list[JobRef | None]
    """None: refused."""
    full: tuple[int, int] | None
    """(jobs that wait, limit) where it was refused."""
    waited: Any
    """The answer to the wait for durability, or its error."""


def _ref(job: Prepared, found: int, *, refused: bool) -> JobRef | None:
    """``found``: 0 its id is new, 1 it was known, 2 it is there before in the same chunk. None: it isn't in Redis."""
    if refused and found != 1:
        return None
    return JobRef(job.id, job.keys.queue, duplicate=found != 0 and not job.id_is_ours)


def _check_confirmed(durable: Durability, waited: Any, refs: list[JobRef], before: list[JobRef]) -> None:
    if isinstance(waited, ResponseError):
        raise_unavailable(waited, refs)
    if isinstance(waited, Exception):
        raise waited
    missing = durable.shortfall(waited)
    if missing is not None:
        raise NotDurable(missing, durable.timeout_ms, refs, before)


def _in_order(refs: Mapping[int, JobRef]) -> list[JobRef]:
    return [ref for _, ref in sorted(refs.items())]


def prepare_now(
    job: Job | Mapping[str, Any] | None, fields: Mapping[str, Any], queue: str | None, priority: str
) -> Prepared:
    """As ``prepare``, at this moment and with a new id."""
    now_s = time.time()
    new_id = id_from(int(now_s * 1_000), random.getrandbits(80))
    return prepare(job, fields, queue=queue, priority=priority, new_id=new_id, now_s=now_s)


def _chunks(jobs: Sequence[Prepared]) -> Iterator[list[int]]:
    """Indices of jobs for the same list, in order, within the bounds of one call; a larger job goes alone."""
    of_list: dict[str, list[int]] = {}
    for index, job in enumerate(jobs):
        of_list.setdefault(job.list_name, []).append(index)
    for indices in of_list.values():
        chunk: list[int] = []
        size = 0
        for index in indices:
            if chunk and (len(chunk) == CHUNK_JOBS or size + len(jobs[index].body) > CHUNK_BYTES):
                yield chunk
                chunk, size = [], 0
            chunk.append(index)
            size += len(jobs[index].body)
        yield chunk
