"""Durability on request: a submit that returns is confirmed, and one that isn't says what is pushed nevertheless."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import NoPermissionError, ResponseError
from typer.testing import CliRunner

from llmpool_cli.main import app
from llmpool_client import Client, Durability, DurabilityUnavailable, JobRef, NotDurable, QueueFull, QueueRefused
from llmpool_client.durability import check_can_confirm, raise_unavailable
from llmpool_contract import QueueKeys
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

CHAT = QueueKeys("llm-chat")
HELLO = {"type": "chat", "model": "m", "messages": [{"role": "user", "content": "hello"}]}
ONE_REPLICA = Durability(local=0, replicas=1, timeout_ms=4_000)
SHORT = Durability(local=0, replicas=1, timeout_ms=100)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as redis:
        yield redis


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    async with Client.from_url(redis_url) as client:
        yield client


@pytest.fixture
def pair() -> Iterator[tuple[RedisServer, RedisServer]]:
    """A master and its replica."""
    # By default a master waits some seconds for more replicas before it sends its data.
    with (
        RedisServer(config={"repl-diskless-sync-delay": "0"}) as master,
        RedisServer(config={"replicaof": f"127.0.0.1 {master.port}"}) as replica,
    ):
        yield master, replica


async def why_no_waitaof(redis: Redis) -> str | None:
    """What the server at hand lacks for confirming its own disk: Redis before 7.2 has no such command."""
    major, minor, *_ = (await redis.info("server"))["redis_version"].split(".")
    if (int(major), int(minor)) < (7, 2):
        return "7.2"
    return None if (await redis.info("persistence"))["aof_enabled"] else "appendonly no"


async def test_own_disk_is_confirmed_or_refused(own_redis: RedisServer) -> None:
    """With an append-only file a durable submit returns when it is synced; a server too old for that is told as such
    and gets nothing."""
    async with Client(own_redis.url, durable=Durability()) as client, Redis.from_url(own_redis.url) as redis:
        if lacking := await why_no_waitaof(redis):
            with pytest.raises(DurabilityUnavailable, match=rf"{lacking}.*nothing was pushed"):
                await client.submit(HELLO)
            assert await redis.dbsize() == 0
        else:
            await client.submit(HELLO, id="a")
            own_redis.kill()
            own_redis.restart()
            assert (await client.submit(HELLO, id="a")).duplicate


async def test_no_append_only_file_is_an_error_of_its_own(client: Client, redis: Redis) -> None:
    """Where the server keeps nothing on disk, waiting would not help: told before anything is pushed."""
    lacking = await why_no_waitaof(redis)
    assert lacking is not None
    with pytest.raises(DurabilityUnavailable, match=rf"{lacking}.*nothing was pushed") as caught:
        await client.submit_many([HELLO, HELLO], durable=Durability())
    assert caught.value.refs == ()
    assert await redis.dbsize() == 0


async def test_replica_confirms(pair: tuple[RedisServer, RedisServer]) -> None:
    """What a submit with replicas returns for is there on the replica, for one job and for many."""
    master, replica = pair
    async with Client(master.url) as client, Redis.from_url(replica.url) as copy:
        ref = await client.submit(HELLO, durable=ONE_REPLICA)
        assert await copy.exists(CHAT.id(ref.id))
        await client.submit_many([HELLO] * 450, durable=ONE_REPLICA)
        assert await copy.llen(CHAT.normal) == 451


async def test_stopped_replica_is_not_durable(pair: tuple[RedisServer, RedisServer]) -> None:
    """A replica that hangs confirms nothing: the job is pushed and the error has its ref; once the replica is back,
    the same id waits again, pushes nothing twice and is confirmed."""
    master, replica = pair
    async with Client(master.url) as client, Redis.from_url(master.url) as redis:
        await client.submit(HELLO, durable=ONE_REPLICA)
        os.kill(replica.pid, signal.SIGSTOP)
        try:
            with pytest.raises(NotDurable, match="job a of queue llm-chat: pushed, but not confirmed") as caught:
                await client.submit(HELLO, id="a", durable=SHORT)
        finally:
            os.kill(replica.pid, signal.SIGCONT)
        assert (caught.value.refs, caught.value.confirmed) == ((JobRef("a", "llm-chat"),), ())
        assert await redis.llen(CHAT.normal) == 2
        assert (await client.submit(HELLO, id="a", durable=ONE_REPLICA)).duplicate
        assert await redis.llen(CHAT.normal) == 2


async def test_many_stop_where_they_are_not_confirmed(client: Client, redis: Redis) -> None:
    """A long call ends at the first part that isn't confirmed, and its error says what is pushed."""
    with pytest.raises(NotDurable, match=r"199 more .* by 1 of 1 replicas") as caught:
        await client.submit_many([{**HELLO, "id": str(n)} for n in range(450)], durable=SHORT)
    assert [ref.id for ref in caught.value.refs] == [str(n) for n in range(200)]
    assert await redis.llen(CHAT.normal) == 200


async def test_cut_wait_is_never_taken_for_a_confirmation(client: Client, redis: Redis) -> None:
    """A connection that breaks while it waits: push and wait are sent again together, so that nothing is pushed twice
    and the new connection's wait is for the job, too."""

    async def waiting() -> str | None:
        return next((each["id"] for each in await redis.client_list() if each["cmd"] == "wait"), None)

    durable = Durability(local=0, replicas=1, timeout_ms=500)
    submit = asyncio.create_task(client.submit(HELLO, id="a", durable=durable))
    await redis.client_kill_filter(_id=await eventually(waiting, 5, "a client that waits"))
    with pytest.raises(NotDurable):
        await submit
    assert await redis.llen(CHAT.normal) == 1


async def test_refusals_come_before_durability(client: Client, redis: Redis) -> None:
    """What isn't pushed needs no confirmation: a full queue and a foreign key are told as they are."""
    with pytest.raises(QueueFull):
        await client.submit(HELLO, durable=SHORT, max_queued=0)
    await redis.set("llm-chat", "in the way")
    with pytest.raises(QueueRefused, match="not a list"):
        await client.submit(HELLO, durable=SHORT)
    assert await redis.keys() == [b"llm-chat"]


async def test_a_cluster_is_refused_before_anything_is_sent() -> None:
    """In a cluster the push and the wait may be answered by two servers, which would confirm nothing."""
    cluster = RedisCluster.__new__(RedisCluster)
    with pytest.raises(DurabilityUnavailable, match="cluster"):
        await check_can_confirm(cluster, Durability())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"local": 2}, "local: got 2, allowed are 0 and 1"),
        ({"replicas": -1}, "replicas: got -1"),
        ({"local": 0}, "confirms nothing"),
        ({"timeout_ms": 0}, "timeout_ms: got 0, allowed are 1 to 4000"),
        ({"timeout_ms": 5_000}, "timeout_ms: got 5000"),
    ],
    ids=str,
)
def test_what_can_be_asked_for(wrong: dict, told: str) -> None:
    """What can't be confirmed can't be asked for; the error names the field and what is allowed."""
    with pytest.raises(ValueError, match=told):
        Durability(**wrong)


@pytest.mark.parametrize(
    ("durable", "command", "answer", "missing"),
    [
        (Durability(), ("WAITAOF", 1, 0, 9), [1, 0], None),
        (Durability(), ("WAITAOF", 1, 0, 9), [0, 3], "its own disk"),
        (Durability(replicas=2), ("WAITAOF", 1, 2, 9), [1, 1], "1 of 2 replicas"),
        (Durability(replicas=2), ("WAITAOF", 1, 2, 9), [0, 0], "its own disk and 2 of 2 replicas"),
        (Durability(local=0, replicas=2), ("WAIT", 2, 9), 3, None),
        (Durability(local=0, replicas=2), ("WAIT", 2, 9), 1, "1 of 2 replicas"),
    ],
)
def test_commands_and_their_answers(durable: Durability, command: tuple, answer: object, missing: str | None) -> None:
    """WAITAOF asks for disks, WAIT for memories; an answer below what was asked for names what is missing."""
    assert (durable.command(9), durable.shortfall(answer)) == (command, missing)


@pytest.mark.parametrize(
    ("error", "raised", "told"),
    [
        (ResponseError("unknown command 'WAITAOF', with args"), DurabilityUnavailable, "7.2 on; job a of queue"),
        (ResponseError("WAITAOF cannot be used when numlocal is set but appendonly is disabled."), None, "job a of"),
        (NoPermissionError("no permissions to run the 'waitaof' command"), NoPermissionError, "waitaof"),
        (ResponseError("WAIT cannot be used with replica instances."), ResponseError, "replica instances"),
    ],
    ids=["old", "no file", "ACL", "replica"],
)
def test_what_a_refused_wait_means(error: ResponseError, raised: type[Exception] | None, told: str) -> None:
    """A server that can't confirm is told apart from one that won't; what was pushed already is named."""
    with pytest.raises(raised or DurabilityUnavailable, match=told):
        raise_unavailable(error, (JobRef("a", "llm-chat"),))


def test_submit_on_the_command_line(redis_url: str) -> None:
    """`llmpool submit --durable` and `--replicas` say in one line what is pushed and what isn't."""
    args = ["submit", "chat", "-m", "m", "hello", "--no-wait", "--id", "a"]
    env = {"REDIS_URL": redis_url}
    refused = CliRunner().invoke(app, [*args, "--durable"], env=env)
    assert (refused.exit_code, "nothing was pushed" in refused.stderr) == (1, True)
    alone = CliRunner().invoke(app, [*args, "--replicas", "1"], env=env)
    assert (alone.exit_code, len(alone.stderr.splitlines())) == (1, 1)
    assert "job a of queue llm-chat: pushed, but not confirmed" in alone.stderr
    full = CliRunner().invoke(app, [*args[:-1], "b", "--max-queued", "1"], env=env)
    assert (full.exit_code, "queue llm-chat is full" in full.stderr) == (1, True)
