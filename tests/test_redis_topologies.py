"""Redis as it is run for real, by real processes: Sentinels and a failover, a cluster, TLS, users with few rights."""

import asyncio
import os
import signal
from contextlib import aclosing
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from llmpool_client import Client, JobRef, QueueUnavailable
from llmpool_contract import PoolKeys, QueueKeys, Result
from llmpool_contract.redis_url import RedisAddress, parse_redis_url
from llmpool_worker.check.redis import check_redis
from llmpool_worker.check.rights import SAMPLES
from llmpool_worker.queue.connections import BodyTooLarge, Connections
from llmpool_worker.queue.store import Limits, QueueStore
from tests.support.redis_server import RedisServer
from tests.support.redis_topologies import Certificates, RedisCluster, SentinelSetup, TlsServer
from tests.support.waiting import eventually, until
from tests.support.worker_process import WorkerProcess, chat_job, wait_for_results

CHAT, EMBED = QueueKeys("llm-chat"), QueueKeys("llm-embed")
STORE = QueueStore("w1", Limits(lease_ms=30_000, job_max_bytes=100_000))
ECHO = {"BACKEND": "echo", "WORKER_TIMEOUT": "10000", "WORKER_DRAIN": "10000"}


def chat(text: str) -> dict[str, Any]:
    return {"type": "chat", "model": "m", "messages": [{"role": "user", "content": text}]}


# --- addresses


@pytest.mark.parametrize(
    ("url", "address", "shown"),
    [
        ("redis://h", RedisAddress("standalone", (("h", 6379),)), "h:6379/0"),
        ("redis://h:1/2", RedisAddress("standalone", (("h", 1),), options={"db": 2}), "h:1/2"),
        ("redis://[::1]:1?db=3", RedisAddress("standalone", (("::1", 1),), options={"db": 3}), "[::1]:1/3"),
        (
            "rediss://u:p%2Fw@h?ssl_cert_reqs=none",
            RedisAddress(
                "standalone",
                (("h", 6379),),
                tls=True,
                options={"username": "u", "password": "p/w", "ssl_cert_reqs": "none"},
            ),
            "h:6379/0",
        ),
        (
            "unix:///run/r.sock?db=1",
            RedisAddress("standalone", (), options={"path": "/run/r.sock", "db": 1}),
            "/run/r.sock",
        ),
        (
            "redis+sentinel://:geheim@s1,s2:5/jobs/1?sentinel_password=auch",
            RedisAddress(
                "sentinel",
                (("s1", 26379), ("s2", 5)),
                "jobs",
                options={"password": "geheim", "db": 1},
                sentinel_login={"password": "auch"},
            ),
            "s1:26379,s2:5/jobs/1",
        ),
        ("rediss+cluster://a,b:7", RedisAddress("cluster", (("a", 6379), ("b", 7)), tls=True), "a:6379,b:7"),
    ],
    ids=["plain", "database", "ipv6", "tls", "socket", "sentinel", "cluster"],
)
def test_addresses(url: str, address: RedisAddress, shown: str) -> None:
    """Each kind of address is read as it is meant, and shown without what is secret in it."""
    assert parse_redis_url(url) == address
    assert str(address) == shown
    assert "geheim" not in repr(address)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis+sentinel://geheim@s1", "no master's name"),
        ("redis+sentinel://s1/jobs/geheim", "a path that is no database"),
        ("redis://h/geheim", "a path that is no database"),
        ("redis+cluster://:geheim@a/1", "a database other than 0"),
        ("redis+cluster://:geheim@a,", "no host"),
        ("redis://:geheim@a,b", "several hosts"),
        ("redis://:geheim@a?ssl_ca_certs=f", "wanted rediss"),
        ("redis+cluster://:geheim@a?sentinel_password=geheim", "option sentinel_password"),
        ("redis+sentinel://:ge/heim@s1/jobs", "not an address"),
        ("redis+guess://:geheim@a", "wanted one of redis://"),
    ],
)
def test_bad_addresses(url: str, words: str) -> None:
    """What can't be meant is refused with its reason, and without being repeated."""
    with pytest.raises(ValueError, match=words) as caught:
        parse_redis_url(url)
    assert "heim" not in str(caught.value)


# --- a cluster


def test_a_worker_of_a_cluster(cluster: RedisCluster) -> None:
    """One worker serves queues of different nodes, sees a push within moments, and takes a wish to cancel."""
    with WorkerProcess(cluster.url, ECHO_TOKEN_DELAY="20", **ECHO) as worker, cluster.client() as client:
        assert len({cluster.owner(queue).port for queue in ("llm-chat", "llm-generate", "llm-embed")}) == 3
        client.rpush("llm-chat", chat_job("a", "hello there"))
        client.rpush("llm-embed", '{"id":"b","type":"embed","model":"m","input":"hello"}')
        client.rpush("llm-generate", '{"id":"c","type":"generate","model":"m","prompt":"' + "word " * 2_000 + '"}')
        for queue, job in (("llm-chat", "a"), ("llm-embed", "b")):
            until(lambda q=queue, j=job: client.exists(f"{{{q}}}:result:{j}"), 10, "a result")
        until(lambda: client.hlen("{llm-generate}:claimed"), 10, "a job that runs")
        client.set("{llm-generate}:cancel:c", "1", ex=60)
        cluster.servers[0].client().publish("{llm-generate}:cancels", "c")
        until(lambda: client.exists("{llm-generate}:result:c"), 5, "its end, long before a renewal would find the wish")
        assert '"status":"cancelled"' in client.get("{llm-generate}:result:c")
        until(lambda: client.hlen("{pool:local/default}:workers") == 1, 5, "a report")
        worker.signal(signal.SIGTERM)
        assert worker.ended(10) == 0
        assert "redis_call_failed" not in worker.log


async def test_a_producer_of_a_cluster(cluster: RedisCluster) -> None:
    """All that the client can do works across nodes: submit, stream, wait, count, cancel, and the clock."""
    with WorkerProcess(cluster.url, **ECHO):
        async with Client(cluster.url) as client:
            refs = await client.submit_many([chat(f"n{n}") for n in range(20)])
            results = await asyncio.gather(*(client.result(ref, timeout=10) for ref in refs))
            assert [result.content for result in results] == [f"n{n}" for n in range(20)]
            ref = await client.submit(type="generate", model="m", prompt="one two")
            events = [event async for event in client.stream(ref, timeout=10)]
            assert events[-1].result.content == "one two"  # type: ignore[union-attr]
            assert (await client.submit(id=ref.id, type="generate", model="m", prompt="one two")).duplicate
            assert [state.in_flight for state in await client.queues()] == [0, 0, 0]
            assert await client.now_ms() > 0


async def test_a_redirect_is_followed_and_a_claim_is_sent_once(cluster: RedisCluster) -> None:
    """A slot that has moved costs one redirect; a claim whose reply is late is not sent again by the client."""
    queue = QueueKeys("q-moving")
    old = cluster.owner(queue.normal)
    new = next(server for server in cluster.servers if server is not old)
    async with aclosing(Connections(cluster.url)) as connections:
        redis = connections.once(timeout_s=0.5)
        assert (await STORE.claim(redis, queue, "t0", 1)).claims == []
        cluster.move_slot(queue.normal, new)
        await redis.rpush(queue.normal, chat_job("a"), chat_job("b"))  # type: ignore[misc]
        assert [claim.handle for claim in (await STORE.claim(redis, queue, "t1", 1)).claims] == ["t1:1"]
        os.kill(new.pid, signal.SIGSTOP)
        try:
            with pytest.raises((RedisTimeoutError, RedisConnectionError)):
                await redis.rpush(queue.high, "once")  # type: ignore[misc]
        finally:
            os.kill(new.pid, signal.SIGCONT)
        with new.client() as client:
            until(lambda: client.llen(queue.high), 5, "what was on its way")
            assert client.llen(queue.high) == 1
    cluster.flush()
    cluster.move_slot(queue.normal, old)


async def test_a_peek_in_a_cluster_never_reads_a_huge_body(cluster: RedisCluster) -> None:
    """The bound on a peek's body holds for each node's connections."""
    async with aclosing(Connections(cluster.url)) as connections:
        peeker = connections.peeker(2_000)
        for keys in (CHAT, EMBED):
            await connections.once().rpush(keys.normal, b"x" * 1_000, b"y" * 5_000)  # type: ignore[misc]
            assert await peeker.blmove(keys.normal, keys.normal, 1, "LEFT", "LEFT") == b"x" * 1_000
            await connections.once().lpop(keys.normal)  # type: ignore[misc]
            with pytest.raises(BodyTooLarge):
                await peeker.blmove(keys.normal, keys.normal, 1, "LEFT", "LEFT")


async def test_a_cluster_that_is_away_is_an_error_like_any_other() -> None:
    """redis-py's own exception for it is no RedisError, and would end a worker's loops."""
    async with aclosing(Connections("redis+cluster://127.0.0.1:1,127.0.0.1:2")) as connections:
        for attempt in (connections.once().time(), connections.repeating().rpush("a", "b")):
            with pytest.raises(RedisConnectionError):
                await attempt  # type: ignore[misc]


# --- Sentinels


def test_a_failover_loses_no_job() -> None:
    """The master dies while jobs run and wait: the worker and the client go on with the replica, and every job that
    the replica had (WAIT said so) has its result. What Redis hadn't replicated yet is Redis' to lose."""
    with SentinelSetup(password="geheim") as setup:
        url = f"{setup.url}?sentinel_password=geheim"
        with WorkerProcess(url, ECHO_TOKEN_DELAY="50", WORKER_LEASE="2000", **ECHO) as worker:
            asyncio.run(_fail_over(setup, url))
            with setup.replica.client() as client:
                assert client.hlen("{llm-chat}:claimed") == 0
            worker.signal(signal.SIGTERM)
            assert worker.ended(10) == 0
        assert "geheim" not in worker.log


async def answer_of(client: Client, ref: JobRef) -> str | None:
    """A job's answer; who asks while there is no master asks again."""

    async def asked() -> Result | None:
        try:
            return await client.result(ref, timeout=30)
        except QueueUnavailable:
            return None

    return (await eventually(asked, 20, f"an answer to {ref.id}")).content


async def _fail_over(setup: SentinelSetup, url: str) -> None:
    text = "one two three four five six seven eight"
    async with Client(url) as client:
        refs = [
            await client.submit(type="chat", model="m", messages=[{"role": "user", "content": text}]) for _ in range(20)
        ]
        with setup.master.client() as master:
            master.set("mark", "1")
            assert master.wait(1, 2_000) == 1
        setup.master.kill()
        assert [await answer_of(client, ref) for ref in refs] == [text] * 20

        assert await answer_of(client, await client.submit(chat("after"))) == "after"
    assert setup.promoted()


async def test_a_master_that_is_a_replica_now_is_left() -> None:
    """Where connections outlive a failover, the first refused write leads to the new master."""
    with SentinelSetup() as setup:
        async with aclosing(Connections(setup.url)) as connections:
            once, repeating = connections.once(), connections.repeating()
            await once.set("a", "1")
            assert await repeating.get("a") == b"1"
            setup.fail_over()
            await eventually(lambda: asyncio.to_thread(setup.promoted), 15, "a new master")
            setup.demote()

            async def written() -> bool:
                try:
                    return bool(await once.set("b", "2"))
                except (RedisConnectionError, RedisTimeoutError):
                    return False

            assert await eventually(written, 5, "a write that arrives")
            with setup.replica.client() as client:
                assert client.get("b") == "2"


# --- TLS


def test_a_worker_over_tls(certificates: Certificates) -> None:
    """With the authority's file in the address a worker does its jobs over TLS alone."""
    with TlsServer(certificates) as server:
        url = f"{server.tls_url}?ssl_ca_certs={certificates.ca}"
        with WorkerProcess(url, **ECHO), server.client() as client:
            client.rpush("llm-chat", chat_job("a", "hello"))
            assert wait_for_results(client, "llm-chat", ["a"], 10)["a"]["content"] == "hello"


@pytest.mark.parametrize(
    ("options", "answers"),
    [
        ({}, False),
        ({"ssl_ca_certs": "ca"}, False),
        ({"ssl_ca_certs": "ca", "ssl_certfile": "client", "ssl_keyfile": "client"}, True),
        (
            {"ssl_cert_reqs": "none", "ssl_check_hostname": False, "ssl_certfile": "client", "ssl_keyfile": "client"},
            True,
        ),
    ],
    ids=["unknown-authority", "no-certificate", "both-know-each-other", "unchecked"],
)
async def test_certificates(certificates: Certificates, options: dict[str, str | bool], answers: bool) -> None:
    """A server is trusted by its authority alone, and one that asks for a client's certificate gets it."""
    files = {
        "ssl_ca_certs": certificates.ca,
        "ssl_certfile": certificates.client,
        "ssl_keyfile": certificates.key("client"),
    }
    with TlsServer(certificates, client_certificates=True) as server:
        given = {name: str(files.get(name, value)) if name in files else value for name, value in options.items()}
        async with aclosing(Connections(parse_redis_url(server.tls_url).with_options(**given))) as connections:
            if answers:
                assert await connections.once().ping()  # type: ignore[misc]
            else:
                with pytest.raises((RedisConnectionError, OSError)):
                    await connections.once().ping()  # type: ignore[misc]


# --- users


def test_a_worker_needs_no_more_rights_than_it_says(own_redis: RedisServer) -> None:
    """A user with the commands, keys and channels that --check and the documents name does every kind of job, and
    its password is in no log."""
    rights = [f"+{sample[0]}".lower() for sample in SAMPLES]
    keys = [f"{sign}{{{queue}}}:*" for queue in ("llm-chat", "llm-generate", "llm-embed") for sign in "~&"]
    plain = ["~llm-chat", "~llm-generate", "~llm-embed", "~{pool:local/default}:*", "~{backend:*}:*", "&{backend:*}:*"]
    with own_redis.client() as client:
        client.execute_command(
            "ACL SETUSER", "worker", "on", ">geheim", "resetchannels", "-@all", *keys, *plain, *rights
        )
        login = {"REDIS_USERNAME": "worker", "REDIS_PASSWORD": "geheim"}
        with WorkerProcess(own_redis.url, **login, **ECHO) as worker:
            client.rpush("llm-chat", chat_job("a"), "no json", chat_job("b", timeout_ms=0))
            client.rpush("llm-embed", '{"id":"c","type":"embed","model":"m","input":"hello"}')
            wait_for_results(client, "llm-chat", ["a"], 10)
            wait_for_results(client, "llm-embed", ["c"], 10)
            until(lambda: client.xlen("{llm-chat}:dead") == 2, 10, "dead letters")
            worker.signal(signal.SIGTERM)
            assert worker.ended(10) == 0
        assert "redis_call_failed" not in worker.log
        assert "geheim" not in worker.log


async def test_a_cluster_s_user_needs_two_more(cluster: RedisCluster) -> None:
    """In a cluster a user also asks who serves what; the check of it is green."""
    for server in cluster.servers:
        with server.client() as client:
            rights = [f"+{sample[0]}".lower() for sample in SAMPLES] + ["+cluster|slots", "+command", "+info"]
            client.execute_command("ACL SETUSER", "worker", "on", ">geheim", "~*", "&*", "-@all", *rights)
    address = parse_redis_url(cluster.url.replace("//", "//worker:geheim@"))
    rows = await check_redis(address, [CHAT, EMBED], PoolKeys("local/default"))
    assert {row.state for row in rows if not row.name.endswith("persistence")} <= {"ok", "unknown"}
    async with aclosing(Connections(address)) as connections:
        assert (await STORE.claim(connections.once(), CHAT, "t", 1)).claims == []
