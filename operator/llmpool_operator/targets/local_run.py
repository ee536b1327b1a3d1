"""The operator's loop for one pool of local processes: what ``llmpool local`` and the demo run."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from llmpool_contract import env
from llmpool_contract.pool import LLMWorkerPool
from llmpool_contract.redis_url import parse_redis_url
from llmpool_operator.engine import PoolEngine
from llmpool_operator.observe import Endpoint
from llmpool_operator.prometheus import Prometheus
from llmpool_operator.readers import Readers
from llmpool_operator.sightings import wish_of

from .base import Turn
from .local import WORKER_MODULE, LocalTarget

READ_TIMEOUT = 0.8
"""Seconds for one reading of Redis: less than a tick."""


@dataclass(frozen=True, slots=True)
class LocalRun:
    """What to run, and whom to tell."""

    pool: LLMWorkerPool
    redis_url: str = field(repr=False)
    on_turn: Callable[[Turn], None]
    """Called after each turn."""
    on_note: Callable[[str], None]
    """Called with what happened to a worker that nobody asked for."""
    ollama_url: str | None = None
    """In place of the spec's address."""
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    """What the workers inherit; the pool's own variables go over it."""
    output: int | None = None
    """A file descriptor for what the workers print. None: where we print."""
    interval: float = 1.0
    """Seconds from turn to turn."""
    module: str = WORKER_MODULE


def redis_url_of(pool: LLMWorkerPool) -> str | None:
    """Where the pool's Redis is for this machine: a Service has no name here, so it is its port on localhost.

    None: it needs a Secret, which only a cluster has.
    """
    redis = pool.spec.redis
    if redis.credentials_secret is not None:
        return None
    return f"redis://localhost:{redis.service.port}/0" if redis.service is not None else redis.url


def ollama_url_of(pool: LLMWorkerPool) -> str | None:
    """The same for the model server."""
    ollama = pool.spec.ollama
    return f"http://localhost:{ollama.service.port}" if ollama.service is not None else ollama.url


def prometheus_url_of(pool: LLMWorkerPool) -> str | None:
    """The same for Prometheus; None: the pool has none."""
    prometheus = pool.spec.prometheus
    if prometheus is None or prometheus.service is None:
        return prometheus.url if prometheus is not None else None
    return f"http://localhost:{prometheus.service.port}"


async def run_local(run: LocalRun, *, stop: asyncio.Event, hurry: asyncio.Event) -> None:
    """Size the pool until ``stop``, then drain its workers. ``hurry`` ends them without a drain."""
    spec = run.pool.spec
    # Whoever starts this reaches all of the machine anyway: an own Prometheus is the usual one here.
    readers = Readers(READ_TIMEOUT, time.monotonic, Prometheus(time.monotonic, allow_loopback=True))
    endpoint = Endpoint(run.redis_url)
    target = LocalTarget(
        name=f"{run.pool.metadata.name}-{secrets.token_hex(3)}",
        environment={
            **run.environment,
            **run.pool.worker_env(run.ollama_url or ollama_url_of(run.pool)),
            env.REDIS_URL: run.redis_url,
            **_preload(spec.models.preload),
        },
        drain_seconds=spec.worker.drain_seconds,
        monotonic=time.monotonic,
        on_turn=run.on_turn,
        on_note=run.on_note,
        output=run.output,
        module=run.module,
    )
    engine = PoolEngine(spec, target)
    wish = wish_of(run.pool, prometheus_url=prometheus_url_of(run.pool))
    try:
        while not stop.is_set():
            began = time.monotonic()
            sightings = await readers.read(endpoint, {"pool": wish}, at=time.time())
            await engine.turn(sightings["pool"], time.time())
            await _until(stop, began + run.interval - time.monotonic())
    finally:
        await target.close(hurry)
        await readers.close()


def _preload(models: list[str]) -> dict[str, str]:
    """Nobody writes a config hash here, and a local pool's spec never changes while it runs."""
    return {env.MODEL_PRELOAD_LIST: ",".join(models)} if models else {}


async def _until(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, but no longer than that."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def shown_address(url: str) -> str:
    """A Redis' address for people: without credentials."""
    return str(parse_redis_url(url))
