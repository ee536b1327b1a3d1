"""Reading Redis: each reading is a value or Missing with a reason, against a real redis-server."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from llmpool_contract import PoolKeys, QueueKeys, WorkerReport, WorkerState
from llmpool_operator.decide.types import Missing, QueueBacklog
from llmpool_operator.observe import Endpoint, Wish, fault_of
from llmpool_operator.readers import Readers
from llmpool_operator.targets.base import Sighting, Workers
from tests.support.processes import free_port
from tests.support.redis_server import RedisServer

WISH = Wish(pool="ns/chat", queues=("llm-chat",), horizon=30.0)
AT = 1_000.0


@asynccontextmanager
async def readers(timeout: float = 0.8) -> AsyncIterator[Readers]:
    held = Readers(timeout, time.monotonic)
    try:
        yield held
    finally:
        await held.close()


async def observe(endpoint: Endpoint, *wishes: Wish, timeout: float = 0.8) -> list[Sighting]:
    async with readers(timeout) as held:
        seen = await held.read(endpoint, {wish.pool: wish for wish in wishes}, at=AT)
        return [seen[wish.pool] for wish in wishes]


async def test_counts_ready_due_and_claimed(redis_server: RedisServer, redis_url: str) -> None:
    """Backlog is the three ready lists plus what is due by Redis' clock; in flight is what is claimed."""
    keys = QueueKeys("llm-chat")
    with redis_server.client() as client:
        seconds, _ = client.time()
        client.rpush(keys.high, "a")
        client.rpush(keys.normal, "b", "c")
        client.rpush(keys.low, "d")
        client.zadd(keys.delayed, {"due": seconds * 1000 - 5_000, "also due": 0, "later": seconds * 1000 + 3_600_000})
        client.hset(keys.claimed, mapping={"h1": "x", "h2": "y", "h3": "z"})
    [seen] = await observe(Endpoint(redis_url), WISH)
    assert seen.observation.at == AT
    assert seen.observation.queues == {"llm-chat": QueueBacklog(ready=4, due=2, in_flight=3, next_due_in=None)}


async def test_a_job_due_within_the_horizon_is_told(redis_server: RedisServer, redis_url: str) -> None:
    """A delayed job that comes due within idleSeconds is told as due by then, so that the pool doesn't go to zero."""
    with redis_server.client() as client:
        seconds, _ = client.time()
        client.zadd(QueueKeys("llm-chat").delayed, {"soon": (seconds + 20) * 1000})
    [seen] = await observe(Endpoint(redis_url), WISH)
    assert seen.observation.queues["llm-chat"] == QueueBacklog(0, 0, 0, next_due_in=30.0)


async def test_reads_all_pools_of_a_redis_over_one_connection(redis_server: RedisServer, redis_url: str) -> None:
    """Many pools and many readings cost one connection."""
    wishes = {n: Wish(f"ns/pool-{n}", (f"q-{n}",), 1.0) for n in range(50)}
    with redis_server.client() as client:
        client.rpush("q-7", "a", "b")
        async with readers() as held:
            for _ in range(3):
                seen = await held.read(Endpoint(redis_url), wishes, at=AT)
            names = [line["name"] for line in client.client_list()]
    assert names.count("llmpool-operator") == 1
    assert seen[7].observation.queues["q-7"] == QueueBacklog(2, 0, 0, None)
    assert seen[8].observation.queues["q-8"] == QueueBacklog(0, 0, 0, None)


async def test_workers_with_a_fresh_report_count(redis_server: RedisServer, redis_url: str) -> None:
    """Stale reports and strangers' writings are no workers."""
    with redis_server.client() as client:
        seconds, _ = client.time()
        fresh = WorkerReport(
            worker="w1",
            pool="ns/chat",
            state=WorkerState.READY,
            at_ms=seconds * 1000,
            in_flight=3,
            capacity=5,
            queues=[],
        )
        idle = fresh.model_copy(update={"worker": "w2", "in_flight": 0})
        stale = fresh.model_copy(update={"worker": "w3", "at_ms": (seconds - 60) * 1000})
        reports = {report.worker: report.model_dump_json() for report in (fresh, idle, stale)}
        client.hset(PoolKeys("ns/chat").workers, mapping={**reports, "w4": "not a report"})
    [seen] = await observe(Endpoint(redis_url), WISH)
    assert seen.workers == Workers(reporting=2, busy=1, in_flight=3, capacity=10)


async def test_a_key_of_the_wrong_type_spoils_its_queue_alone(redis_server: RedisServer, redis_url: str) -> None:
    """One queue's fault is Missing for that queue; the next pool's and queue's numbers stand."""
    with redis_server.client() as client:
        client.set("llm-chat", "not a list")
        client.rpush("llm-embed", "a")
    first, second = await observe(
        Endpoint(redis_url), Wish("ns/one", ("llm-chat", "llm-embed"), 1.0), Wish("ns/two", ("llm-embed",), 1.0)
    )
    wrong = first.observation.queues["llm-chat"]
    assert isinstance(wrong, Missing)
    assert wrong.reason.startswith("WrongType at 127.0.0.1:")
    assert first.observation.queues["llm-embed"] == QueueBacklog(1, 0, 0, None)
    assert second.observation.queues["llm-embed"] == QueueBacklog(1, 0, 0, None)


async def test_out_of_reach_is_missing() -> None:
    """A Redis that nobody listens for is Missing, never zero."""
    port = free_port()
    [seen] = await observe(Endpoint(f"redis://127.0.0.1:{port}/0"), WISH)
    assert seen.observation.queues == {"llm-chat": Missing(f"RedisUnreachable at 127.0.0.1:{port}")}
    assert isinstance(seen.workers, Missing)


@pytest.mark.parametrize(
    "endpoint_of",
    [
        pytest.param(lambda url: Endpoint(url), id="none given"),
        pytest.param(lambda url: Endpoint(url, password=b"s3cret-wrong"), id="a wrong one"),
        pytest.param(lambda url: Endpoint(url, username=b"nobody", password=b"s3cret-wrong"), id="a wrong user"),
    ],
)
async def test_refused_credentials_are_missing_and_secret(endpoint_of, own_redis: RedisServer) -> None:
    """Without the right password everything is Missing, and the reason names the address but no secret."""
    with own_redis.client() as client:
        client.config_set("requirepass", "s3cret-right")
    [seen] = await observe(endpoint_of(own_redis.url), WISH)
    missing = seen.observation.queues["llm-chat"]
    assert isinstance(missing, Missing)
    assert missing.reason == f"RedisAuth at 127.0.0.1:{own_redis.port}"
    assert "s3cret" not in repr(seen)
    assert "s3cret" not in repr(endpoint_of(own_redis.url))


@pytest.mark.parametrize("password", [pytest.param(b"s3cret-right", id="text"), pytest.param(b"\xff\x00", id="bytes")])
async def test_right_credentials_read(password: bytes, own_redis: RedisServer) -> None:
    """A password from elsewhere than the URL is used, whatever its bytes."""
    with own_redis.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "resetpass", b">" + password)
    [seen] = await observe(Endpoint(own_redis.url, password=password), WISH)
    assert seen.observation.queues["llm-chat"] == QueueBacklog(0, 0, 0, None)


async def test_a_read_only_user_will_do(own_redis: RedisServer) -> None:
    """The user that docs/configuration.md proposes can read counts, and neither run scripts nor see any job."""
    documented = Path(__file__).parents[1] / "docs" / "configuration.md"
    [line] = [line for line in documented.read_text().splitlines() if line.startswith("ACL SETUSER llmpool-operator ")]
    with own_redis.client() as client:
        client.execute_command(line)
    [seen] = await observe(Endpoint(own_redis.url, username=b"llmpool-operator", password=b"PASSWORD"), WISH)
    assert seen.observation.queues["llm-chat"] == QueueBacklog(0, 0, 0, None)


async def test_a_silent_redis_costs_the_timeout_and_no_more(own_redis: RedisServer, redis_url: str) -> None:
    """A Redis that never answers is Missing within the timeout, delays no other, and is read once it is back."""
    asleep, awake = Endpoint(own_redis.url), Endpoint(redis_url)
    async with readers(timeout=0.3) as held:

        async def backlogs() -> list[QueueBacklog | Missing]:
            seen = await asyncio.gather(*(held.read(one, {"p": WISH}, at=AT) for one in (asleep, awake)))
            return [part["p"].observation.queues["llm-chat"] for part in seen]

        assert await backlogs() == [QueueBacklog(0, 0, 0, None)] * 2
        os.kill(own_redis.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            silent, answering = await backlogs()
            took = time.monotonic() - began
        finally:
            os.kill(own_redis.pid, signal.SIGCONT)
        assert silent == Missing(f"RedisTimeout at 127.0.0.1:{own_redis.port}")
        assert isinstance(answering, QueueBacklog)
        assert took < 1.0
        again, _ = await backlogs()
        assert again == QueueBacklog(0, 0, 0, None), "the late answer must not be taken for this one's"


async def test_somebody_else_on_the_port_is_missing() -> None:
    """An answer that isn't Redis' is Missing too."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        [seen] = await observe(Endpoint(f"redis://127.0.0.1:{port}/0"), WISH, timeout=0.2)
    assert isinstance(seen.observation.queues["llm-chat"], Missing)


async def test_unused_connections_end(redis_server: RedisServer, redis_url: str) -> None:
    """A Redis that no pool names any more is left."""
    with redis_server.client() as client:
        async with readers() as held:
            await held.read(Endpoint(redis_url), {"a": WISH}, at=AT)
            await held.keep(set())
            assert "llmpool-operator" not in [line["name"] for line in client.client_list()]


ODD_OPTIONS = ["encoding=bogus", "credential_provider=x", "redis_connect_func=x", "event_dispatcher=x"]


@pytest.mark.parametrize("option", ODD_OPTIONS)
async def test_an_odd_address_is_missing_too(option: str, redis_url: str) -> None:
    """Whatever redis-py makes of a URL, a reading says Missing and raises nothing: it is one of many Redises."""
    odd = Endpoint(f"{redis_url}?{option}")
    async with readers() as held:
        seen = await held.read(odd, {"p": WISH}, at=AT)
        assert isinstance(seen["p"].observation.queues["llm-chat"], Missing)
        assert isinstance(seen["p"].workers, Missing)


@pytest.mark.parametrize(
    ("url", "works"),
    [
        pytest.param("redis://h", True, id="bare"),
        pytest.param("rediss://h:6380/1?ssl_cert_reqs=none", True, id="tls options"),
        pytest.param("redis://h:port/0", False, id="port"),
        pytest.param("redis://h:6379/0?nonsense=1", False, id="option"),
        pytest.param("rediss://h:6379/0?ssl_password=x", False, id="another tls option"),
        pytest.param("redis://h:6379/0?ssl_cert_reqs=none", False, id="tls option without tls"),
        pytest.param("redis://h:6379/0?socket_timeout=600", False, id="a timeout of its own"),
        *(pytest.param(f"redis://h:6379/0?{option}", False, id=option) for option in ODD_OPTIONS),
        pytest.param("redis://[h/0", False, id="address"),
    ],
)
def test_urls_that_can_never_work(url: str, works: bool) -> None:
    """They are found without connecting, before they could break a reading of other pools."""
    assert (fault_of(url) is None) == works
