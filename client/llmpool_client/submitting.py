"""Many jobs in few round trips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from .prepare import Prepared
from .scripts import SUBMIT

IDS_TTL_S = 86_400
"""Life of the ids key of a job that isn't claimed yet, s: as long as a result lives by default."""
CHUNK_JOBS = 200
CHUNK_BYTES = 1_048_576
"""Bounds of one call: Redis serves nobody else while its script runs."""


@dataclass(frozen=True, slots=True)
class JobRef:
    """A submitted job: what the other calls take."""

    id: str
    queue: str
    duplicate: bool = False
    """The id was known already and nothing was pushed: another submit, or this one after its reply was lost."""


class Submitter:
    """Pushes prepared jobs. One atomic script per chunk, so a repeat after a lost reply pushes nothing twice."""

    def __init__(self, redis: Redis) -> None:
        self._script = redis.register_script(SUBMIT)

    async def push(self, jobs: Sequence[Prepared]) -> list[JobRef]:
        """Push in order; the answers are in the same order."""
        found: dict[int, bool] = {}
        for chunk in _chunks(jobs):
            keys = [jobs[chunk[0]].list_name, jobs[chunk[0]].keys.stats]
            for index in chunk:
                keys += [jobs[index].keys.result(jobs[index].id), jobs[index].keys.id(jobs[index].id)]
            answers = await self._script(keys=keys, args=[IDS_TTL_S, *(jobs[index].body for index in chunk)])
            found |= {index: bool(answer) for index, answer in zip(chunk, answers, strict=True)}
        return [
            JobRef(job.id, job.keys.queue, duplicate=found[index] and not job.id_is_ours)
            for index, job in enumerate(jobs)
        ]


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
