"""What workers say of themselves, read for people: who is there, and what each of them does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from redis.asyncio import Redis

from llmpool_contract import BadName, PoolKeys, WorkerReport

_PREFIX, _SUFFIX = PoolKeys("any/pool").workers.split("any/pool")
_MOST_POOLS = 1_000
"""Beyond this, finding goes no further: whoever has so many asks for them by name."""


@dataclass(frozen=True, slots=True)
class PoolWorkers:
    """One pool's reports."""

    pool: str
    """``namespace/name``."""
    fresh: tuple[WorkerReport, ...]
    """Of the last seconds, by name."""
    stale: tuple[str, ...]
    """Names of those who have not reported since: gone, or cut off. What they do is not known."""


async def read_workers(redis: Redis, pool: str, now_ms: int) -> PoolWorkers:
    """All reports of a pool. One that can't be read is as good as a stale one."""
    raw: Any = await redis.hgetall(PoolKeys(pool).workers)
    reports = {name: report_of(value) for name, value in sorted(raw.items())}
    fresh = {name: report for name, report in reports.items() if report is not None and report.is_fresh(now_ms)}
    return PoolWorkers(pool, tuple(fresh.values()), tuple(_text(name) for name in reports if name not in fresh))


async def find_pools(redis: Redis) -> list[str]:
    """The pools that workers report to here, ``namespace/name``, in order. Looks through all names of keys."""
    found: set[str] = set()
    async for key in redis.scan_iter(match=f"{_PREFIX}*{_SUFFIX}", count=1_000):
        name = _text(key).removeprefix(_PREFIX).removesuffix(_SUFFIX)
        if _is_pool(name):
            found.add(name)
        if len(found) >= _MOST_POOLS:
            break
    return sorted(found)


def _is_pool(name: str) -> bool:
    try:
        PoolKeys(name)
    except BadName:
        return False
    return True


def report_of(raw: Any) -> WorkerReport | None:
    """None: written by another version, in a way that can't be read."""
    try:
        return WorkerReport.model_validate_json(raw)
    except ValidationError:
        return None


def _text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
