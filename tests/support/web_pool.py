"""What the tests of the operator's page put into Redis: reports of workers, and dead letters."""

import time
from typing import Any

import redis

from llmpool_contract import PoolKeys, QueueKeys
from tests.support.redis_server import RedisServer

HOSTILE = '<img src=x onerror="document.title=1337;alert(1)">"><script>alert(2)</script>'
SECRET = "the-prompt-that-nobody-may-see"


def report(pool: str, worker: str, **more: Any) -> str:
    """A worker's report, fresh for some minutes' tests only while it is written anew: `at_ms` is now."""
    from llmpool_contract import WorkerReport

    given = {
        "worker": worker,
        "pool": pool,
        "state": "ready",
        "at_ms": int(time.time() * 1000),
        "in_flight": 1,
        "capacity": 4,
        "queues": ["llm-chat"],
        "done": 42,
        "jobs_per_second": 0.5,
        "tokens_per_second": 31.25,
        "resident_models": ["gemma3:270m"],
    }
    return WorkerReport.model_validate({**given, **more}).model_dump_json()


def tell(server: RedisServer, pool: str, *reports: tuple[str, dict[str, Any]]) -> None:
    """Write reports, (worker, fields), as the workers of a pool do."""
    with server.client() as client:
        for worker, fields in reports:
            client.hset(PoolKeys(pool).workers, worker, report(pool, worker, **fields))


def bury(client: "redis.Redis", queue: str, **fields: Any) -> None:
    """A dead letter."""
    letter: dict[Any, Any] = {
        "code": "invalid", "reason": "model: Field required", "id": "job-7", "body": SECRET, "priority": "normal",
        "attempts": 2, "deliveries": 1, "at_ms": 1_700_000_000_000, "worker": "w1", "size": len(SECRET),
    }  # fmt: skip
    client.xadd(QueueKeys(queue).dead, letter | fields)
