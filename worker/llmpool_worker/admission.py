"""From claimed bytes to jobs that may run: parse, then one check call per queue for ids that are taken or unwanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from redis.asyncio import Redis

from llmpool_contract import BadJob, Job, JobError, JobType, QueueKeys, Status, parse_job
from llmpool_contract.models import is_cloud as is_cloud

from .answer import unanswered
from .clock import RedisClock
from .filters import Limits, exceeded
from .held import HeldJob
from .queue.store import QueueStore
from .queue.types import Claim, Settlement, Verdict
from .routing import Chains


@dataclass(frozen=True, slots=True)
class Refused:
    """A job that can't run: a dead letter, and a failed result where its id is known."""

    code: str
    reason: str
    job_id: str | None


@dataclass(frozen=True, slots=True)
class Rules:
    """What is refused before a model is asked."""

    queues: Mapping[QueueKeys, JobType | None]
    job_max_bytes: int
    max_deliveries: int
    chains: Chains
    limits: Limits
    worker: str


def read(claim: Claim, rules: Rules) -> Job | Refused:
    """Parse a claim's body. Pure. A job that keeps killing its workers is refused once its id is read."""
    try:
        job = parse_job(claim.element.body, max_bytes=rules.job_max_bytes)
    except BadJob as bad:
        return Refused(bad.code, bad.reason, bad.job_id)
    job_id = job.id or claim.job_id
    if claim.element.deliveries > rules.max_deliveries:
        tried = claim.element.deliveries - 1
        return Refused("poison", f"{tried} workers in a row died with this job or lost it (MAX_DELIVERIES)", job_id)
    only_type = rules.queues[claim.keys]
    if only_type is not None and job.type != only_type:
        return Refused("invalid", f"type: got {job.type}, queue {claim.keys.queue} takes {only_type}", job_id)
    if (cloud := next(filter(is_cloud, job.fallback_models or ()), None)) is not None:
        return Refused("invalid", f"fallback_models: got {cloud}: Ollama would send it to a server outside", job_id)
    if reason := rules.chains.refusal(job):
        return Refused("invalid", reason, job_id)
    if fault := exceeded(job, rules.limits):
        return Refused(fault.code, fault.reason, job_id)
    return job


def refusal(claim: Claim, refused: Refused, worker: str) -> Settlement:
    """Its settlement."""
    result = None
    if refused.job_id is not None:
        error = JobError(code=refused.code, message=refused.reason[:2_000])
        result = unanswered(refused.job_id, claim, Status.FAILED, worker, error=error)
    return Settlement.buried(claim, refused.code, refused.reason[:2_000], result)


class Admission:
    """Asks Redis about the ids of a batch, and sorts the batch by the answer."""

    def __init__(self, redis: Redis, store: QueueStore, clock: RedisClock) -> None:
        self._redis, self._store, self._clock = redis, store, clock

    async def verdicts(self, keys: QueueKeys, batch: list[HeldJob]) -> list[Verdict]:
        """One verdict per job. Raises what Redis raises: the claims are still held, and may be checked again."""
        return await self._store.check(self._redis, keys, [(held.claim, held.job_id) for held in batch])

    def has_expired(self, job: Job) -> bool:
        """Whether the client's deadline is past, by Redis' clock."""
        return job.deadline is not None and job.deadline <= self._clock.now_ms()
