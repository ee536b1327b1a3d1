"""From Redis to facts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from redis.asyncio import Redis

from llmpool_client.status import JobStatus, job_status, read_result
from llmpool_client.workers import report_of
from llmpool_contract import PRIORITIES, BadJob, Job, PoolKeys, QueueKeys, Result, parse_job
from llmpool_contract.element import Element, decode
from llmpool_contract.mark import read_mark

from .facts import Ask, JobFacts, Place, Progress, Where, WorkersSeen
from .script import FIND, MOST_BYTES, MOST_DECODED_BYTES, MOST_ENTRIES

_SPELT_ONE_WAY = re.compile(r"[A-Za-z0-9._:-]+")
"""JSON encoders escape what else they like: slashes, ``<``, everything beyond ASCII."""


class FactFinder:
    """Looks for jobs in one Redis."""

    def __init__(self, redis: Redis, most_entries: int = MOST_ENTRIES) -> None:
        self._redis = redis
        self._most_entries = most_entries
        self._find = redis.register_script(FIND)

    async def look(self, job_id: str, queues: Sequence[QueueKeys], pool: str | None) -> JobFacts:
        """The facts of the first queue that knows the job; else of one that is too long to tell; else of the first."""
        looks: list[JobFacts] = []
        for keys in queues:
            looks.append(await self._facts(keys, job_id))
            if looks[-1].known:
                break
        best = max(looks, key=lambda facts: (facts.known, facts.place.where is Where.BEYOND))
        if pool is None:
            return best
        return replace(best, workers=await self._workers(pool, best.queue, best.now_ms))

    async def _facts(self, keys: QueueKeys, job_id: str) -> JobFacts:
        plain = _SPELT_ONE_WAY.fullmatch(job_id) is not None
        names = [keys.result(job_id), keys.id(job_id), keys.cancel(job_id), keys.claimed, keys.lease, keys.delayed]
        args: list[str | int] = [job_id, int(plain), self._most_entries, MOST_BYTES if plain else MOST_DECODED_BYTES]
        answer = await self._find(keys=[*names, keys.dead, *keys.ready], args=args)
        now_ms, raw_result, raw_mark, cancel, lengths, raw_place, looked_at, dead = answer
        result = None if raw_result is None else read_result(raw_result, job_id)
        mark = None if raw_mark is None else read_mark(raw_mark)
        place, element = _place(raw_place, looked_at)
        ask = None if element is None else ask_of(element.body)
        return JobFacts(
            id=job_id,
            queue=keys.queue,
            now_ms=int(now_ms),
            status=_status(result, raw_mark, place),
            place=place,
            progress=None if element is None else _progress(element),
            ready=dict(zip(PRIORITIES, lengths[:3], strict=True)),
            ask=ask,
            note=None if mark is None else mark.note,
            note_fault=None if mark is None else mark.note_fault,
            cancel_wished=bool(cancel),
            model_passed_over_since_ms=await self._passed_over(keys, place, ask),
            attempts=_attempts(result, element),
            error=None if result is None else result.error,
            answered_by=None if result is None else result.worker,
            dead_entry=None if dead is None else dead.decode(),
            workers=None,
        )

    async def _passed_over(self, keys: QueueKeys, place: Place, ask: Ask | None) -> int | None:
        """Models are found there as jobs name them or with their tag."""
        if place.where is not Where.READY or ask is None or ask.model is None:
            return None
        names = [ask.model, f"{ask.model.removesuffix(':latest')}:latest", ask.model.removesuffix(":latest")]
        found: Any = await self._redis.hmget(keys.waiting, names)
        return min((int(value) for value in found if value is not None and value.isdigit()), default=None)

    async def _workers(self, pool: str, queue: str, now_ms: int) -> WorkersSeen:
        raw: Any = await self._redis.hvals(PoolKeys(pool).workers)
        reports = [report for each in raw if (report := report_of(each)) is not None and queue in report.queues]
        reports.sort(key=lambda report: report.worker)
        return WorkersSeen(
            pool=pool,
            fresh=tuple(report for report in reports if report.is_fresh(now_ms)),
            stale=tuple(report.worker for report in reports if not report.is_fresh(now_ms)),
        )


def ask_of(body: bytes) -> Ask:
    """What a worker will read in a body."""
    try:
        job = parse_job(body, max_bytes=max(len(body), 1))
    except BadJob as error:
        return Ask(fault=error.reason)
    return _ask(job)


def _ask(job: Job) -> Ask:
    return Ask(
        type=job.type,
        model=job.model,
        fallback_models=tuple(job.fallback_models or ()),
        deadline_ms=job.deadline,
        enqueued_at=job.enqueued_at,
        tenant=job.tenant,
    )


def _place(raw: list[Any], looked_at: int) -> tuple[Place, Element | None]:
    """Where it is, and its bytes there."""
    element = decode(raw[-1]) if len(raw) > 1 else None
    match raw, element:
        case [b"claimed", lease_end, _], Element():
            end_ms = None if lease_end is None else int(lease_end)
            return Place(Where.CLAIMED, looked_at, element.priority, lease_end_ms=end_ms), element
        case [b"ready", number, ahead, _], Element():
            return Place(Where.READY, looked_at, PRIORITIES[number - 1], ahead), element
        case [b"delayed", due_ms, ahead, _], Element():
            return Place(Where.DELAYED, looked_at, element.priority, ahead, due_ms=int(due_ms)), element
        case [b"beyond"], None:
            return Place(Where.BEYOND, looked_at), None
    return Place(Where.NOWHERE, looked_at), None


def _progress(element: Element) -> Progress:
    return Progress(
        size=len(element.body),
        deliveries=element.deliveries,
        first_claimed_ms=element.first_claimed_ms or None,
        worker=element.worker or None,
    )


def _status(result: Result | None, mark: bytes | None, place: Place) -> JobStatus:
    """As ``job_status``; a bare RPUSH left no mark, but here its job was found."""
    if result is None and mark is None and place.where in (Where.READY, Where.DELAYED):
        return JobStatus.QUEUED
    return job_status(result, mark, claimed=place.where is Where.CLAIMED)


def _attempts(result: Result | None, element: Element | None) -> int | None:
    if result is not None:
        return result.attempts
    return None if element is None else element.attempts
