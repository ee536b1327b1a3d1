"""What a pool's workers are told, on a real Redis: who may write, what a write changes, and how it ends."""

from collections.abc import AsyncIterator

import pytest

from llmpool_contract import PoolConfig, PoolKeys
from llmpool_operator.act.config import ABANDONED_MS, RENEW_MS, ConfigWriter, Message, message, taken_by_another
from llmpool_operator.act.drains import LEASE_MS
from llmpool_operator.observe import Endpoint
from llmpool_operator.targets.base import TargetError
from tests.support.operator_user import documented_user
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

POOL = "ns/chat"
KEY = PoolKeys(POOL).config
UID = "uid-1"


class Leader:
    """One operator: a writer and the number of its leadership."""

    def __init__(self, url: str, transition: int = 0) -> None:
        self.endpoint = Endpoint(url)
        self.transition = transition
        self.writer = ConfigWriter(2.0, lambda: self.transition)

    async def write(self, *hold: str, release: tuple[str, ...] = (), uid: str = UID, preload: str = "m:1b") -> int:
        return await self.writer.write(self.endpoint, POOL, Message(uid, (preload,), hold, release))


@pytest.fixture
async def leader(redis_url: str) -> AsyncIterator[Leader]:
    leader = Leader(redis_url, 3)
    yield leader
    await leader.writer.close()


def read(server: RedisServer) -> PoolConfig:
    with server.client() as client:
        return PoolConfig.from_hash(client.hgetall(KEY))


def put(server: RedisServer, **fields: str | int) -> None:
    with server.client() as client:
        client.hset(KEY, mapping=fields)


async def test_a_write_is_what_workers_read(leader: Leader, redis_server: RedisServer) -> None:
    """Owner, transition, preload list and a lease for each drain, by Redis' own clock; the hash ends by itself."""
    now = await leader.write("chat-a", "chat-b")
    config = read(redis_server)
    assert (config.owner, config.transition, config.preload, config.version) == (UID, 3, ("m:1b",), 1)
    assert config.drains == {"chat-a": now + LEASE_MS, "chat-b": now + LEASE_MS}
    assert config.renewed_ms == now
    with redis_server.client() as client:
        assert 6 * 86_400 < client.ttl(KEY) <= 7 * 86_400


async def test_the_documented_user_may_write(own_redis: RedisServer) -> None:
    """The user that docs/configuration.md proposes writes what workers are told, takes it away, and no other key."""
    with own_redis.client() as client:
        for line in documented_user():
            client.execute_command(line)
    leader = Leader(own_redis.url)
    leader.endpoint = Endpoint(own_redis.url, username=b"llmpool-operator", password=b"PASSWORD")
    await leader.write("chat-a")
    assert list(read(own_redis).drains) == ["chat-a"]
    leader.writer.forget(leader.endpoint, POOL, UID)
    await leader.writer.close()
    with own_redis.client() as client:
        assert client.exists(KEY) == 0


async def test_the_version_counts_changes_alone(leader: Leader, redis_server: RedisServer) -> None:
    """A renewal changes nothing that anybody must act on; a drain that comes, goes or lapsed does."""
    await leader.write("chat-a")
    await leader.write("chat-a")
    assert read(redis_server).version == 1
    await leader.write("chat-a", "chat-b")
    assert read(redis_server).version == 2
    await leader.write(release=("chat-b", "chat-b", "nobody"))
    assert read(redis_server).version == 3
    put(redis_server, **{"drain:chat-a": 1})
    await leader.write()
    config = read(redis_server)
    assert (config.version, config.drains) == (4, {})
    await leader.write(preload="other:1b")
    assert read(redis_server).version == 5


async def test_an_older_leader_is_refused(leader: Leader, redis_server: RedisServer) -> None:
    """Of two leaders the later one's word stands, whoever writes last."""
    old = Leader(leader.endpoint.url, 2)
    await leader.write("chat-a")
    before = read(redis_server)
    with pytest.raises(TargetError) as refused:
        await old.write("chat-b", release=("chat-a",))
    assert (refused.value.reason, refused.value.sized) == ("NotLeader", False)
    assert read(redis_server) == before
    leader.transition = 4
    await leader.write()
    assert read(redis_server).transition == 4
    await old.writer.close()


async def test_another_pools_hash_is_left_alone(leader: Leader, redis_server: RedisServer) -> None:
    """Two clusters, one Redis, one name: the first one's hash is not written over while it is renewed."""
    await leader.write("chat-a")
    before = read(redis_server)
    with pytest.raises(TargetError) as refused:
        await leader.write("chat-b", uid="uid-2")
    assert refused.value.reason == "PoolNameTaken"
    assert read(redis_server) == before
    assert taken_by_another(before, before.renewed_ms + 1, "uid-2")
    assert not taken_by_another(before, before.renewed_ms + 1, UID)


async def test_what_nobody_renews_is_nobodys(leader: Leader, redis_server: RedisServer) -> None:
    """A pool deleted while no operator ran, and a Lease that begins to count anew, keep nobody out for good."""
    now = await leader.write("chat-a")
    put(redis_server, renewed_ms=now - ABANDONED_MS - 1)
    assert not taken_by_another(read(redis_server), now, "uid-2")
    leader.transition = 0
    await leader.write("chat-b", uid="uid-2")
    config = read(redis_server)
    assert (config.owner, config.transition, set(config.drains)) == ("uid-2", 0, {"chat-b"})


async def test_a_deleted_pool_takes_its_hash_along(leader: Leader, redis_server: RedisServer) -> None:
    """Only its own: that of a pool of the same name stays."""
    await leader.write()
    leader.writer.forget(leader.endpoint, POOL, "uid-2")
    leader.writer.forget(leader.endpoint, POOL, UID)

    async def gone() -> bool:
        with redis_server.client() as client:
            return not client.exists(KEY)

    await leader.writer.close()
    await eventually(gone, 2, "the hash is gone")
    await leader.write(uid="uid-2")
    leader.writer.forget(leader.endpoint, POOL, UID)
    await leader.writer.close()
    assert read(redis_server).owner == "uid-2"


@pytest.mark.parametrize("fault", ["wrong type", "read-only", "unreachable", "no answer"])
async def test_a_redis_that_cannot_be_written(own_redis: RedisServer, fault: str) -> None:
    """The size may be right all the same; the error has a fixed word and the address, and leaves nothing half done."""
    leader = Leader(own_redis.url)
    with own_redis.client() as client:
        if fault == "wrong type":
            client.set(KEY, "x")
        elif fault == "read-only":
            client.replicaof("127.0.0.1", 1)
        elif fault == "no answer":
            leader.writer._timeout = 0.2
            client.client_pause(5_000)
    if fault == "unreachable":
        own_redis.kill()
    with pytest.raises(TargetError) as error:
        await leader.write("chat-a")
    assert (error.value.reason, error.value.sized) == ("ConfigNotWritten", True)
    assert f"127.0.0.1:{own_redis.port}" in error.value.message
    await leader.writer.close()


async def test_a_restarted_redis_is_taught_the_script_anew(leader: Leader, redis_server: RedisServer) -> None:
    """A server that forgot the script gets it with the next call."""
    await leader.write()
    with redis_server.client() as client:
        client.script_flush()
    await leader.write("chat-a")
    assert set(read(redis_server).drains) == {"chat-a"}


NOW = 10_000_000
WRITTEN = PoolConfig(
    version=1, owner=UID, transition=3, renewed_ms=NOW - 1_000, preload=("m",), drains={"a": NOW + 12_000}
)


@pytest.mark.parametrize(
    ("config", "changes", "wanted"),
    [
        pytest.param(WRITTEN, {}, None, id="nothing-new"),
        pytest.param(WRITTEN, {"hold": {"a"}}, None, id="a-drain-that-lasts-long-enough"),
        pytest.param(WRITTEN, {"hold": {"a", "b"}}, (("b",), ()), id="a-new-drain"),
        pytest.param(
            WRITTEN.model_copy(update={"drains": {"a": NOW + 9_999}}), {"hold": {"a"}}, (("a",), ()), id="a-renewal"
        ),
        pytest.param(WRITTEN, {"release": {"a", "z"}}, ((), ("a",)), id="a-release"),
        pytest.param(WRITTEN, {"preload": ("m", "n")}, ((), ()), id="another-preload-list"),
        pytest.param(WRITTEN, {"transition": 4}, ((), ()), id="another-leader"),
        pytest.param(WRITTEN.model_copy(update={"renewed_ms": NOW - RENEW_MS}), {}, ((), ()), id="old"),
        pytest.param(PoolConfig(), {"preload": ()}, ((), ()), id="none-yet"),
    ],
)
def test_what_is_written_and_when(config: PoolConfig, changes: dict, wanted: tuple | None) -> None:
    """A write only where it changes something, renews a drain in time, or keeps the hash's owner known."""
    given = {"preload": ("m",), "transition": 3, "hold": set(), "release": set(), **changes}
    given |= {"hold": frozenset(given["hold"]), "release": frozenset(given["release"])}
    found = message(config, NOW, uid=UID, **given)
    assert (found and (found.hold, found.release)) == wanted
