"""Reading Redis: each reading is a value or Missing with a reason, against a real redis-server."""

import asyncio
import json
import os
import re
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    InvalidResponse,
    MasterDownError,
    MovedError,
    ResponseError,
    SlotNotCoveredError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from llmpool_contract import PoolKeys, QueueKeys, WorkerReport, WorkerState
from llmpool_contract.config import PoolConfig
from llmpool_operator.decide.types import Missing, QueueBacklog
from llmpool_operator.missing import why_missing
from llmpool_operator.observe import Endpoint, Wish, fault_of
from llmpool_operator.prometheus import Heard, Prometheus
from llmpool_operator.questions import Questions
from llmpool_operator.readers import Readers, RedisReader
from llmpool_operator.reports import PoolMemory, rate_of, workers_of
from llmpool_operator.targets.base import Sighting, Workers
from tests.support.operator_user import documented_user
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


async def test_the_documented_user_will_do(own_redis: RedisServer) -> None:
    """The user that docs/configuration.md proposes can read counts; it can neither see nor change any job."""
    with own_redis.client() as client:
        for line in documented_user():
            client.execute_command(line)
        for command in (["LRANGE", "llm-chat", "0", "-1"], ["DEL", "llm-chat"], ["EVAL", "return 1", "1", "llm-chat"]):
            said = client.execute_command("ACL", "DRYRUN", "llmpool-operator", *command)
            assert said != "OK", command
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
        assert took < 10, "far below what redis-py waits for by itself"
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
        pytest.param("redis+sentinel://a:26379,b/jobs/1", True, id="sentinels"),
        pytest.param("redis+sentinel://a:26379,b", False, id="sentinels without a master's name"),
        pytest.param("rediss+cluster://a,b:7001?ssl_ca_certs=/ca.pem", True, id="a cluster over tls"),
        pytest.param("redis+cluster://a/1", False, id="a cluster's database"),
        pytest.param("unix:///run/redis.sock?db=2", True, id="a socket"),
        pytest.param("rediss://h?ssl_certfile=/tls.crt", False, id="the operator's own certificate"),
        pytest.param("redis+sentinel://a/jobs?sentinel_password=x", True, id="a login at the sentinels"),
    ],
)
def test_urls_that_can_never_work(url: str, works: bool) -> None:
    """They are found without connecting, before they could break a reading of other pools."""
    assert (fault_of(url) is None) == works


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        pytest.param("redis://user:s3cret@h", "h:6379", id="one server"),
        pytest.param("redis+sentinel://user:s3cret@a,b:1/jobs", "a:26379,b:1/jobs", id="sentinels"),
        pytest.param("redis+cluster://:s3cret@a,b:1", "a:6379,b:1", id="cluster"),
        pytest.param("redis://:s3cret@[::1]:1", "[::1]:1", id="IPv6"),
        pytest.param("unix:///run/redis.sock", "/run/redis.sock", id="socket"),
        pytest.param("http://s3cret", "an address that can't be read", id="no address"),
    ],
)
def test_what_of_an_address_is_shown(url: str, shown: str) -> None:
    """Where it is, never how to get in; a repr has nothing of it."""
    endpoint = Endpoint(url, password=b"s3cret", sentinel_password="s3cret")
    assert endpoint.shown == shown
    assert "s3cret" not in repr(endpoint)


# --- reports


def report(worker: str, at_ms: int = 100_000, **fields: object) -> WorkerReport:
    """A report of a ready worker."""
    given = {"state": WorkerState.READY, "in_flight": 0, "capacity": 5, "queues": ["llm-chat"], **fields}
    return WorkerReport.model_validate({"worker": worker, "pool": "ns/chat", "at_ms": at_ms, **given})


PLAIN = report("w1").model_dump(mode="json")


def written(fields: dict[str, object]) -> bytes:
    """As JSON, NaN and lone surrogates included."""
    return json.dumps(fields).encode()


def hash_of(*reports: WorkerReport | tuple[str, str]) -> list[bytes]:
    """What HGETALL answers."""
    pairs = [(one.worker, one.model_dump_json()) if isinstance(one, WorkerReport) else one for one in reports]
    return [text.encode() for pair in pairs for text in pair]


@pytest.mark.parametrize(
    "field",
    [
        pytest.param('"in_flight":-1', id="negative jobs"),
        pytest.param('"in_flight":NaN', id="NaN jobs"),
        pytest.param('"in_flight":1000000000000', id="1e12 jobs"),
        pytest.param('"capacity":1e12', id="1e12 places"),
        pytest.param('"at_ms":-5', id="a time before time"),
        pytest.param('"at_ms":1e300', id="a time after time"),
        pytest.param('"worker":"w2"', id="another worker's"),
    ],
)
def test_absurd_reports_are_none(field: str) -> None:
    """A report that can't be true is as good as none: its worker is unknown, not idle."""
    raw = report("w1").model_dump_json()
    name = field.partition(":")[0]
    absurd = re.sub(rf'{name}:("[^"]*"|[0-9]+)', field, raw, count=1)
    assert absurd != raw
    assert PoolMemory().fresh(hash_of(("w1", absurd)), 100_000) == {}


FIELDS = st.sampled_from(sorted(WorkerReport.model_fields))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400),
    lambda of: st.lists(of, max_size=3) | st.dictionaries(st.sampled_from(["index", "name", "state"]), of),
)


@given(st.binary() | st.dictionaries(FIELDS, VALUES).map(lambda odd: written({**PLAIN, **odd})))
def test_no_report_breaks_the_reading(raw: bytes) -> None:
    """Whatever is written in a worker's place is its report or nobody's: the others are read all the same."""
    known = PoolMemory().fresh([b"w1", raw, *hash_of(report("w2"))], 100_000)
    assert "w2" in known
    assert known.keys() <= {"w1", "w2"}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-1", "-1e-9", "1e12", "1e999", "9" * 400])
def test_absurd_readings_are_missing(number: str) -> None:
    """A rate that can't be true is no rate; the report's other parts stand."""
    raw = report("w1", in_flight=2, jobs_per_second=3.5).model_dump_json().replace("3.5", number)
    known = PoolMemory().fresh(hash_of(("w1", raw)), 100_000)
    assert known["w1"].jobs_per_second is None
    assert workers_of(known) == Workers(reporting=1, busy=1, in_flight=2, capacity=5)
    assert rate_of(known) == Missing("no busy worker has told its rate")


@pytest.mark.parametrize(
    ("now_ms", "fresh"), [(100_000, True), (105_000, True), (105_001, False), (95_000, True), (94_999, False)]
)
def test_a_report_of_the_future_is_not_fresh(now_ms: int, fresh: bool) -> None:
    """One that was written before Redis' clock went back would never grow old: it says nothing either."""
    assert bool(PoolMemory().fresh(hash_of(report("w1")), now_ms)) == fresh


def test_what_has_not_changed_is_not_read_again() -> None:
    """Equal bytes give the very same report and config; changed ones are read anew, and who left is forgotten."""
    memory = PoolMemory()
    first = memory.fresh(hash_of(report("w1"), report("w2")), 100_000)
    again = memory.fresh(hash_of(report("w1"), report("w2", in_flight=3)), 100_000)
    assert again["w1"] is first["w1"]
    assert again["w2"].in_flight == 3
    assert memory.fresh(hash_of(report("w2", in_flight=3)), 100_000) == {"w2": again["w2"]}
    told = [b"version", b"7", b"drain:w1", b"12345"]
    config = memory.config(told, "h")
    assert config == PoolConfig(version=7, drains={"w1": 12345})
    assert memory.config(list(told), "h") is config
    assert memory.config([b"version", b"x"], "h:1") == Missing("PoolConfigUnreadable at h:1")
    assert memory.config([], "h") == PoolConfig()


@pytest.mark.parametrize(
    ("told", "rate"),
    [
        pytest.param([], Missing("no busy worker has told its rate"), id="nobody"),
        pytest.param([(0, 9.0)], Missing("no busy worker has told its rate"), id="idle ones don't count"),
        pytest.param([(1, None)], Missing("no busy worker has told its rate"), id="untold"),
        pytest.param([(5, 2.0)], 2.0, id="all slots of a worker together"),
        pytest.param([(1, 1.0), (2, 3.0), (0, 50.0), (1, None)], 2.0, id="the mean of the busy ones that tell"),
        pytest.param([(1, 0.0), (1, 1.0)], 0.5, id="a first job counts"),
        pytest.param([(1, 0.0)], Missing("no busy worker has finished a job yet"), id="all with their first job"),
    ],
)
def test_the_rate_of_a_busy_worker(told: list[tuple[int, float | None]], rate: float | Missing) -> None:
    """Jobs per second of one busy worker; not known is Missing, never zero."""
    reports = {
        f"w{n}": report(f"w{n}", in_flight=in_flight, jobs_per_second=per_second)
        for n, (in_flight, per_second) in enumerate(told)
    }
    assert rate_of(reports) == rate


# --- answers of Redis


@pytest.mark.parametrize(
    ("error", "word"),
    [
        pytest.param(ResponseError("WRONGTYPE Operation against a key"), "WrongType", id="wrong type"),
        pytest.param(ResponseError("NOAUTH Authentication required."), "RedisAuth", id="no login"),
        pytest.param(ResponseError("BUSY Redis is busy running a script"), "RedisBusy", id="a script"),
        pytest.param(ResponseError("ERR s3cret"), "RedisError", id="another answer"),
        pytest.param(BusyLoadingError("loading"), "RedisLoading", id="loading"),
        pytest.param(MasterDownError("Link with MASTER is down"), "RedisMasterDown", id="a cut-off replica"),
        pytest.param(ClusterDownError("The cluster is down"), "RedisClusterDown", id="cluster down"),
        pytest.param(SlotNotCoveredError("s3cret"), "RedisClusterDown", id="a slot that nobody serves"),
        pytest.param(MovedError("1 127.0.0.1:1"), "RedisMoved", id="a cluster that is addressed as one server"),
        pytest.param(MasterNotFoundError("s3cret"), "RedisNoMaster", id="no master"),
        pytest.param(RedisConnectionError("s3cret"), "RedisUnreachable", id="no connection"),
        pytest.param(ConnectionResetError("s3cret"), "RedisUnreachable", id="reset"),
        pytest.param(RedisTimeoutError("s3cret"), "RedisTimeout", id="slow"),
        pytest.param(ssl.SSLCertVerificationError("s3cret"), "RedisTLS", id="a certificate"),
        pytest.param(InvalidResponse("s3cret"), "RedisError", id="no Redis"),
        pytest.param(ValueError("s3cret"), "RedisAddress", id="no address"),
    ],
)
def test_failures_have_words(error: Exception, word: str) -> None:
    """A reason is a fixed word and the address; an error's own text may hold anything."""
    assert why_missing(error, "h:1") == Missing(f"{word} at h:1")


async def test_a_replica_can_be_read(own_redis: RedisServer) -> None:
    """READONLY is the writers' business."""
    with own_redis.client() as client:
        client.rpush("llm-chat", "a")
        client.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
    [seen] = await observe(Endpoint(own_redis.url), WISH)
    assert seen.observation.queues["llm-chat"] == QueueBacklog(1, 0, 0, None)


async def test_a_replica_that_refuses_stale_answers_is_missing(own_redis: RedisServer) -> None:
    """Where Redis doesn't vouch for what it has, nothing is known."""
    with own_redis.client() as client:
        client.rpush("llm-chat", "a")
        client.config_set("replica-serve-stale-data", "no")
        client.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
    [seen] = await observe(Endpoint(own_redis.url), WISH)
    assert seen.observation.queues["llm-chat"] == Missing(f"RedisMasterDown at 127.0.0.1:{own_redis.port}")


async def test_a_user_without_rights_is_missing_where_it_has_none(own_redis: RedisServer) -> None:
    """Rights on one queue and not on another: the one is known, the other says why it isn't."""
    rights = ["-@all", "+time", "+llen", "+zcount", "+hlen", "+hgetall", "+client|setname"]
    with own_redis.client() as client:
        client.rpush("llm-chat", "a")
        client.execute_command("ACL SETUSER", "some", "on", ">pw", "~llm-chat", "~{llm-chat}:*", *rights)
    [seen] = await observe(
        Endpoint(own_redis.url, username=b"some", password=b"pw"), Wish("ns/chat", ("llm-chat", "llm-embed"), 1.0)
    )
    missing = Missing(f"RedisNoPermission at 127.0.0.1:{own_redis.port}")
    assert seen.observation.queues == {"llm-chat": QueueBacklog(1, 0, 0, None), "llm-embed": missing}
    assert (seen.reports, seen.workers, seen.config, seen.observation.rate) == (missing,) * 4


# --- many pools


async def test_many_pools_are_read_in_parts(redis_server: RedisServer, redis_url: str) -> None:
    """Parts bound what one round trip does; every pool gets its own answers, whatever part it is in."""
    wishes = {n: Wish(f"ns/pool-{n}", (f"q-{n}", f"r-{n}"), 1.0) for n in range(40)}
    with redis_server.client() as client:
        for n in range(40):
            client.rpush(f"r-{n}", *["x"] * (n + 1))
    reader = RedisReader(Endpoint(redis_url), 0.8, time.monotonic, chunk=100)
    try:
        seen = await reader.read(wishes, at=AT)
    finally:
        await reader.close()
    assert [seen[n].observation.queues[f"r-{n}"] for n in range(40)] == [
        QueueBacklog(n + 1, 0, 0, None) for n in range(40)
    ]
    assert all(sighting.observation.queues[f"q-{n}"] == QueueBacklog(0, 0, 0, None) for n, sighting in seen.items())


async def test_a_reading_ends_with_its_reader(redis_server: RedisServer, redis_url: str) -> None:
    """Closed between two parts, a reader opens no connection that nobody would close: the rest is Missing."""
    wishes = {n: Wish(f"ns/pool-{n}", (f"q-{n}",), 1.0) for n in range(3)}
    reader = RedisReader(Endpoint(redis_url), 0.8, time.monotonic, chunk=8)
    parts = reader._parts(wishes)
    first = await reader._read_part(next(parts), AT)
    assert not isinstance(first, Missing)
    await reader.close()
    assert await reader._read_part(next(parts), AT) == Missing("RedisNoLongerUsed")
    with redis_server.client() as client:
        assert "llmpool-operator" not in [line["name"] for line in client.client_list()]


async def test_a_fault_of_one_pool_is_its_own(redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What breaks on one pool's questions costs what others tell of that pool, is logged once, and nothing else."""

    class Odd(Prometheus):
        def ask(self, url: str, query: str, *, refresh: float = 5.0) -> Heard | Missing:
            if query == "odd":
                raise RuntimeError(query)
            return Heard((), age=0.0)

    wishes = {name: Wish(f"ns/{name}", ("q",), 1.0, Questions("http://p", (name,))) for name in ("odd", "even")}
    held = Readers(0.8, time.monotonic, Odd(time.monotonic))
    try:
        for _ in range(2):
            seen = await held.read(Endpoint(redis_url), wishes, at=AT)
    finally:
        await held.close()
    queries = {name: sighting.observation.queries[name] for name, sighting in seen.items()}
    assert queries == {
        "odd": Missing("ReadingFailed: see the operator's log"),
        "even": Missing("PrometheusNoValue at p"),
    }
    assert all(sighting.observation.queues == {"q": QueueBacklog(0, 0, 0, None)} for sighting in seen.values())
    assert capsys.readouterr().out.count("pool not read in full") == 1


async def test_a_silent_redis_costs_one_timeout_however_many_pools(own_redis: RedisServer) -> None:
    """What fails as a whole isn't waited for once more for each part."""
    wishes = {n: Wish(f"ns/pool-{n}", (f"q-{n}",), 1.0) for n in range(400)}
    reader = RedisReader(Endpoint(own_redis.url), 0.2, time.monotonic, chunk=8)
    try:
        await reader.read({0: wishes[0]}, at=AT)
        os.kill(own_redis.pid, signal.SIGSTOP)
        try:
            seen = await asyncio.wait_for(reader.read(wishes, at=AT), 10)
        finally:
            os.kill(own_redis.pid, signal.SIGCONT)
    finally:
        await reader.close()
    missing = Missing(f"RedisTimeout at 127.0.0.1:{own_redis.port}")
    assert all(missing in sighting.observation.queues.values() for sighting in seen.values())


async def test_a_redis_that_comes_back_is_read_again(own_redis: RedisServer) -> None:
    """Killed and started anew, it is read by the next reading after it answers."""
    async with readers() as held:

        async def backlog() -> QueueBacklog | Missing:
            seen = await held.read(Endpoint(own_redis.url), {"p": WISH}, at=AT)
            return seen["p"].observation.queues["llm-chat"]

        with own_redis.client() as client:
            client.rpush("llm-chat", "a", "b")
        assert await backlog() == QueueBacklog(2, 0, 0, None)
        await asyncio.to_thread(own_redis.kill)
        assert await backlog() == Missing(f"RedisUnreachable at 127.0.0.1:{own_redis.port}")
        await asyncio.to_thread(own_redis.restart)
        assert await backlog() == QueueBacklog(2, 0, 0, None)


async def test_overlapping_readings_don_t_end_each_other(own_redis: RedisServer) -> None:
    """While one reading waits for a silent Redis, another's failure doesn't cut it: both say the same."""
    async with readers(timeout=0.5) as held:
        await held.read(Endpoint(own_redis.url), {"p": WISH}, at=AT)
        os.kill(own_redis.pid, signal.SIGSTOP)
        try:
            first = asyncio.create_task(held.read(Endpoint(own_redis.url), {"p": WISH}, at=AT))
            await asyncio.sleep(0.2)
            second = asyncio.create_task(held.read(Endpoint(own_redis.url), {"p": WISH}, at=AT))
            seen = await asyncio.gather(first, second)
        finally:
            os.kill(own_redis.pid, signal.SIGCONT)
    missing = Missing(f"RedisTimeout at 127.0.0.1:{own_redis.port}")
    assert [one["p"].observation.queues["llm-chat"] for one in seen] == [missing, missing]
