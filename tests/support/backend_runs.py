"""Jobs for a backend, alone or through a real Runner."""

import json
import random
import time
from functools import partial
from typing import Any

from redis.asyncio import Redis

from llmpool_contract import Job, QueueKeys, parse_job
from llmpool_contract.element import Element
from llmpool_worker.asking import Asker, Models, guarded_call
from llmpool_worker.backends.base import Backend, BackendError, Event, ask
from llmpool_worker.breaker_types import BreakerRules
from llmpool_worker.breakers import Breakers, Counts
from llmpool_worker.clock import RedisClock
from llmpool_worker.embedding import Embedder
from llmpool_worker.failures import handling_of
from llmpool_worker.filters import Filters
from llmpool_worker.held import HeldJob
from llmpool_worker.models.places import Places
from llmpool_worker.policy import RetryPolicy
from llmpool_worker.queue.store import Limits, QueueStore
from llmpool_worker.queue.types import Claim
from llmpool_worker.retry_budget import RetryBudget
from llmpool_worker.routing import AllowedModels, Chains
from llmpool_worker.runner import Ended, RunLimits, Runner
from llmpool_worker.streams import Streams

CHAT_MODEL, EMBED_MODEL = "gemma3:270m", "all-minilm"


def job_of(kind: str, text: str = "one two three", **fields: Any) -> Job:
    """A small job of that type. `fields` win."""
    asked: dict[str, dict[str, Any]] = {
        "chat": {"model": CHAT_MODEL, "messages": [{"role": "user", "content": text}]},
        "generate": {"model": CHAT_MODEL, "prompt": text},
        "embed": {"model": EMBED_MODEL, "input": text},
    }
    return parse_job(json.dumps({"type": kind, **asked[kind], **fields}).encode())


async def events_of(backend: Backend, job: Job) -> list[Event]:
    """All of an answer."""
    return [event async for event in ask(backend, job, job.model)]


def asker_of(backend: Backend) -> Asker:
    """Asks that backend alone: every model is open, no breaker counts, nothing is gathered."""
    places = Places(managed=False, batch=10, limit_of=lambda _model: None, refused=lambda _model: False)
    models = Models("server", Breakers(BreakerRules(), random.random, enabled=False), places, time.time, lambda: None)
    call = partial(guarded_call, backend, models, 60.0)
    embedder = Embedder(call, batch_size=10, gather_s=0.0, more_expected=lambda: False)
    budget = RetryBudget(1.0, 100.0)
    return Asker(backend, models, Chains({}, AllowedModels()), embedder, budget, max_retries=3)


def counts_for_breaker(error: BackendError) -> bool:
    """Whether a breaker takes it for a failure."""
    return handling_of(error).counts in (Counts.FAILURE, Counts.UNREACHABLE)


async def ended(backend: Backend, job: Job, limits: RunLimits) -> Ended:
    """What a Runner makes of a job that isn't streamed to its client, so that no Redis is asked."""
    connection = Redis()  # opens nothing until it is used
    streams = Streams(connection, QueueStore("w1", Limits(30_000, 1_000_000)), lambda _error: None)
    clock = RedisClock()
    clock.heard(0)
    retry = RetryPolicy(max_retries=3, base_ms=1, cap_ms=1)
    runner = Runner(asker_of(backend), None, Filters.none(), streams, clock, limits, retry, "w1")
    now = time.monotonic()
    claim = Claim(QueueKeys("llm-chat"), "t:1", Element(b"{}", origin="t:1"), 0)
    return await runner.run(HeldJob(claim, lease_until=now + 60, claimed_at=now, job=job, job_id="j"))
