"""Durability of results on real Redis servers: what is confirmed is safe, and what isn't is never said to be."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis as sync_redis
from redis.asyncio import Redis

from llmpool_contract import QueueKeys
from llmpool_worker.durability import Durability, NotConfirmed, Wanted, unfit, why_not
from llmpool_worker.queue.connections import Connections
from llmpool_worker.settings import SettingsError, load
from tests.support.processes import free_port
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually, until

MARK = QueueKeys("q").settled("token")
ONE_REPLICA = Wanted(replicas=1)


class Failures(list[Exception]):
    """What a Durability had to say."""

    def __call__(self, error: Exception) -> None:
        self.append(error)


@contextmanager
def stopped(server: RedisServer) -> Iterator[None]:
    """The server hangs; its connections stay."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@pytest.fixture
def master() -> Iterator[RedisServer]:
    # By default a master waits 5 s for more replicas before it sends its data to the first.
    with RedisServer(appendonly=True, config={"repl-diskless-sync-delay": "0"}) as server:
        with server.client() as client:
            client.set(MARK, "done")
        yield server


@pytest.fixture
def replica(master: RedisServer) -> Iterator[RedisServer]:
    with RedisServer(config={"replicaof": f"127.0.0.1 {master.port}"}) as server, server.client() as client:
        until(lambda: client.info("replication")["master_link_status"] == "up", 10, "a replica in step")
        until(lambda: client.exists(MARK), 10, "the replica's copy")
        yield server


@pytest.fixture
async def connections(master: RedisServer) -> Connections:
    return Connections(master.url)


async def confirm(connections: Connections, wanted: Wanted, failures: Failures, timeout_ms: int = 3_000) -> bool:
    """On a connection that never wrote anything."""
    redis = connections.once()
    try:
        return await Durability(redis, wanted, timeout_ms, failures).confirm(MARK)
    finally:
        await redis.aclose()


def has_waitaof(server: RedisServer) -> bool:
    """Whether the redis-server of this machine is one of 7.2 or later."""
    with server.client() as client:
        try:
            client.waitaof(0, 0, 1)
        except sync_redis.ResponseError:
            return False
    return True


async def test_where_nothing_is_wanted_nothing_is_asked() -> None:
    """The default costs no call: Redis needn't even be there."""
    failures = Failures()
    nowhere = Connections(f"redis://127.0.0.1:{free_port()}/0")
    assert await confirm(nowhere, Wanted(), failures)
    assert failures == []


async def test_a_replica_that_has_it_confirms(
    master: RedisServer, replica: RedisServer, connections: Connections
) -> None:
    """With as many replicas in step as are wanted the answer is yes, and the mark lives on."""
    failures = Failures()
    assert await confirm(connections, ONE_REPLICA, failures)
    assert failures == []
    with master.client() as client:
        assert 0 < client.pttl(MARK) <= 60_000


async def test_a_replica_that_hangs_confirms_nothing_until_it_goes_on(
    master: RedisServer, replica: RedisServer, connections: Connections
) -> None:
    """A connected replica isn't enough, and a question on a fresh connection isn't answered for want of a write of its
    own (a bare WAIT would be). It is told with a number and no word of the job; the mark and the result stay."""
    failures = Failures()
    with stopped(replica):
        assert not await confirm(connections, ONE_REPLICA, failures, timeout_ms=100)
    assert [str(error) for error in failures] == ["0 of 1 replicas have it after 100 ms"]
    assert isinstance(failures[0], NotConfirmed)
    with master.client() as client:
        assert client.get(MARK) == "done"
    assert await confirm(connections, ONE_REPLICA, failures)


async def test_questions_gather_while_one_is_under_way(
    master: RedisServer, replica: RedisServer, connections: Connections
) -> None:
    """A hundred settlements during one answer make one further question, and nobody waited for either."""
    failures = Failures()
    redis = connections.once()
    durability = Durability(redis, ONE_REPLICA, 400, failures)
    running = asyncio.create_task(durability.run())
    with stopped(replica):
        for _ in range(2):
            for _ in range(100):
                durability.settled(MARK)
            await eventually(lambda: _blocked(master), 5, "a question under way")
        await eventually(lambda: _is(len(failures) == 2), 5, "both answers")
        assert not await _blocked(master)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await redis.aclose()
    assert len(failures) == 2


async def _blocked(server: RedisServer) -> bool:
    with server.client() as client:
        return client.info("clients")["blocked_clients"] == 1


async def _is(fact: bool) -> bool:
    return fact


async def test_fewer_replicas_than_wanted_is_a_no(replica: RedisServer, connections: Connections) -> None:
    """One of two isn't two."""
    failures = Failures()
    assert not await confirm(connections, Wanted(replicas=2), failures, timeout_ms=2_000)
    assert "1 of 2 replicas" in str(failures[0])


async def test_without_a_mark_nothing_is_confirmed(
    master: RedisServer, replica: RedisServer, connections: Connections
) -> None:
    """Where there is nothing to write, the answer of WAIT is about something else: it isn't taken for a yes."""
    failures = Failures()
    with master.client() as client:
        client.delete(MARK)
    assert not await confirm(connections, ONE_REPLICA, failures)
    assert "mark is gone" in str(failures[0])


async def test_disk_is_confirmed_by_a_redis_that_can(master: RedisServer, connections: Connections) -> None:
    """From 7.2 on an append-only file's fsync is waited for; an older Redis' refusal is told, and is a no."""
    failures = Failures()
    able = has_waitaof(master)
    assert await confirm(connections, Wanted(disk=True), failures) is able
    assert bool(failures) is not able
    redis = connections.once()
    reason = await why_not(redis, Wanted(disk=True))
    assert reason is None if able else reason is not None and reason.startswith("WAITAOF needs Redis 7.2, this one is ")
    await redis.aclose()


@pytest.mark.parametrize(
    ("config", "said"),
    [({"appendonly": "no"}, "appendonly is off"), ({"appendonly": "yes", "appendfsync": "no"}, "appendfsync is no")],
    ids=["appendonly", "appendfsync"],
)
async def test_disk_isn_t_confirmed_by_a_redis_that_doesn_t_write_it(config: dict[str, str], said: str) -> None:
    """Without an append-only file, or with one whose writes nobody waits for, the answer is no, and the start can say
    why."""
    with RedisServer(config=config) as server:
        with server.client() as client:
            client.set(MARK, "done")
        failures, redis = Failures(), Redis.from_url(server.url)
        assert not await Durability(redis, Wanted(disk=True), 100, failures).confirm(MARK)
        reason = await why_not(redis, Wanted(disk=True)) or ""
        assert said in reason if has_waitaof(server) else reason.startswith("WAITAOF needs Redis 7.2")
        await redis.aclose()
    assert len(failures) == 1


async def test_a_redis_that_is_away_is_a_no_and_no_error(connections: Connections, master: RedisServer) -> None:
    """A settler isn't stopped by a question that can't be asked: the settlement itself was answered before."""
    failures = Failures()
    master.kill()
    assert not await confirm(connections, ONE_REPLICA, failures)
    assert isinstance(failures[0], sync_redis.ConnectionError)


async def test_missing_replicas_are_told_at_the_start(replica: RedisServer, connections: Connections) -> None:
    """Wanted and connected are both in the reason; enough of them is none."""
    redis = connections.once()
    assert await why_not(redis, Wanted(replicas=2)) == "2 replicas are wanted, connected are 1"
    assert await why_not(redis, ONE_REPLICA) is None
    assert await why_not(redis, Wanted()) is None
    await redis.aclose()


@pytest.mark.parametrize("wanted", [ONE_REPLICA, Wanted(disk=True)], ids=["replicas", "disk"])
def test_a_cluster_is_refused(wanted: Wanted) -> None:
    """There each node answers for its own keys, and a client's connections to it are many."""
    assert "Cluster" in (unfit({"cluster_enabled": 1, "connected_slaves": 1}, wanted) or "")
    assert unfit({"cluster_enabled": 0, "connected_slaves": 1}, wanted) is None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("none", Wanted()), ("aof", Wanted(disk=True)), ("replica:2", Wanted(replicas=2))],
    ids=["none", "aof", "replicas"],
)
def test_settings_say_what_is_wanted(text: str, wanted: Wanted) -> None:
    """Each documented value is read as what it says."""
    assert Wanted.parse(load({"result_durability": text}).result_durability) == wanted


@pytest.mark.parametrize(
    "text", ["", "AOF!", "replica", "replica:", "replica:0", "replica:17", "replica:-1", "replica:1.5"]
)
def test_other_values_stop_the_start(text: str) -> None:
    """The error names the variable and all that is allowed."""
    with pytest.raises(
        SettingsError, match=r"RESULT_DURABILITY: .*allowed are none, aof and replica:N with N from 1 to 16"
    ):
        load({"result_durability": text})
