"""The operator's loop for one pool of local processes: what ``llmpool local`` and the demo run."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from llmpool_contract import PoolKeys, WorkerReport, env
from llmpool_contract.pool import LLMWorkerPool
from llmpool_operator.engine import PoolEngine
from llmpool_operator.observe import Endpoint, Wish, parse_report
from llmpool_operator.readers import RedisReader

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


async def run_local(run: LocalRun, *, stop: asyncio.Event, hurry: asyncio.Event) -> None:
    """Size the pool until ``stop``, then drain its workers. ``hurry`` ends them without a drain."""
    spec = run.pool.spec
    reports = RedisReports(run.redis_url, run.pool.key)
    reader = RedisReader(Endpoint(run.redis_url), READ_TIMEOUT, time.monotonic)
    target = LocalTarget(
        name=f"{run.pool.metadata.name}-{secrets.token_hex(3)}",
        environment={
            **run.environment,
            **run.pool.worker_env(run.ollama_url or ollama_url_of(run.pool)),
            env.REDIS_URL: run.redis_url,
        },
        drain_seconds=spec.worker.drain_seconds,
        reports=reports.read,
        monotonic=time.monotonic,
        on_turn=run.on_turn,
        on_note=run.on_note,
        output=run.output,
        module=run.module,
    )
    engine = PoolEngine(spec, target)
    wish = Wish(run.pool.key, tuple(queue.name for queue in spec.queues), float(spec.scaling.idle_seconds))
    try:
        while not stop.is_set():
            began = time.monotonic()
            sightings = await reader.read({run.pool.key: wish}, at=time.time())
            await engine.turn(sightings[run.pool.key], time.time())
            await _until(stop, began + run.interval - time.monotonic())
    finally:
        await target.close(hurry)
        await reports.close()
        await reader.close()


async def _until(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, but no longer than that."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


class RedisReports:
    """Reads the workers' own reports: who is idle, and who is ready."""

    def __init__(self, url: str, pool: str) -> None:
        self._key = PoolKeys(pool).workers
        self._redis = Redis.from_url(
            url,
            socket_timeout=READ_TIMEOUT,
            socket_connect_timeout=READ_TIMEOUT,
            retry=Retry(NoBackoff(), 0),  # the next turn is the retry
        )

    async def read(self) -> Mapping[str, WorkerReport]:
        """Fresh reports by worker. Nothing where Redis can't be read: then all are unknown."""
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                seconds, microseconds = await self._redis.time()
                raw = await self._redis.hgetall(self._key)
        except (RedisError, OSError, TimeoutError):
            return {}
        now_ms = seconds * 1000 + microseconds // 1000
        reports = [report for value in raw.values() if (report := parse_report(value)) is not None]
        return {report.worker: report for report in reports if report.is_fresh(now_ms)}

    async def close(self) -> None:
        """End the connection."""
        try:
            await self._redis.aclose()
        except (RedisError, OSError):
            return  # it was cut before, or is cut now: either way it has ended


def shown_address(url: str) -> str:
    """A URL for people: without credentials."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
