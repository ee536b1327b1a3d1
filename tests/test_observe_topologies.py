"""Reading Redis as it is run for real: Sentinels and a failover, a cluster with a node away, TLS."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from llmpool_contract import QueueKeys
from llmpool_operator.decide.types import Missing, QueueBacklog
from llmpool_operator.observe import Endpoint, Wish
from llmpool_operator.readers import RedisReader
from llmpool_operator.targets.base import Sighting
from tests.support.operator_user import documented_user
from tests.support.redis_server import RedisServer
from tests.support.redis_topologies import Certificates, RedisCluster, SentinelSetup, TlsServer
from tests.support.waiting import eventually, until

EMPTY = QueueBacklog(0, 0, 0, None)
AT = 1_000.0


class Bench:
    """One reader, and what it sees of some queues."""

    def __init__(self, endpoint: Endpoint, timeout: float) -> None:
        self.reader = RedisReader(endpoint, timeout, time.monotonic)

    async def see(self, *queues: str) -> Sighting:
        return (await self.reader.read({"p": Wish("ns/chat", queues, 30.0)}, at=AT))["p"]

    async def backlogs(self, *queues: str) -> list[QueueBacklog | Missing]:
        seen = await self.see(*queues)
        return [seen.observation.queues[queue] for queue in queues]


@asynccontextmanager
async def bench(endpoint: Endpoint, timeout: float = 0.8) -> AsyncIterator[Bench]:
    made = Bench(endpoint, timeout)
    try:
        yield made
    finally:
        await made.reader.close()


# --- Sentinels


async def test_the_master_that_sentinels_name_is_read_and_followed() -> None:
    """Through a Sentinel that never answers, and across a failover: Missing for a moment, then the new master."""
    with (
        SentinelSetup(password="s3cret") as setup,
        socket.create_server(("127.0.0.1", 0)) as silent,
    ):
        with setup.master.client() as client:
            client.rpush("llm-chat", "a")
            client.wait(1, 5000)
        nodes = f"127.0.0.1:{silent.getsockname()[1]},{setup.nodes}"
        endpoint = Endpoint(f"redis+sentinel://{nodes}/jobs/0", sentinel_password="s3cret")
        async with bench(endpoint, timeout=0.3) as made:
            first = await made.backlogs("llm-chat")
            assert first == [Missing(f"RedisTimeout at {endpoint.shown}")], "the silent one takes longer than a reading"

            async def counted(jobs: int) -> bool:
                return await made.backlogs("llm-chat") == [QueueBacklog(jobs, 0, 0, None)]

            await eventually(lambda: counted(1), 10, "a reading of the master")
            other = Endpoint(f"redis+sentinel://{setup.nodes}/other", sentinel_password="s3cret")
            async with bench(other, timeout=5) as strange:
                assert await strange.backlogs("llm-chat") == [Missing(f"RedisNoMaster at {other.shown}")]
            await asyncio.to_thread(setup.fail_over)
            await asyncio.to_thread(until, setup.promoted, 10, "a promotion")
            with setup.replica.client() as client:
                client.rpush("llm-chat", "b")
            setup.master.kill()
            await eventually(lambda: counted(2), 10, "a reading of the new master")


async def test_a_redis_in_the_place_of_a_sentinel(own_redis: RedisServer) -> None:
    """It can't name a master: Missing."""
    async with bench(Endpoint(f"redis+sentinel://127.0.0.1:{own_redis.port}/jobs")) as made:
        assert await made.backlogs("q") == [Missing(f"RedisError at 127.0.0.1:{own_redis.port}/jobs")]


# --- clusters


async def test_a_cluster_is_read_whole(cluster: RedisCluster) -> None:
    """Queues and pools of all nodes, in one reading."""
    queues = [f"q-{n}" for n in range(30)]
    assert len({cluster.owner(queue).port for queue in queues}) == 3
    with cluster.client() as client:
        for n, queue in enumerate(queues):
            keys = QueueKeys(queue)
            client.rpush(keys.high, *["x"] * (n + 1))
            client.hset(keys.claimed, "h", "x")
            client.zadd(keys.delayed, {"due": 1})
        client.hset("{pool:ns/chat}:config", "version", "7")
    async with bench(Endpoint(cluster.url)) as made:
        seen = await made.see(*queues)
    assert [seen.observation.queues[queue] for queue in queues] == [QueueBacklog(n + 1, 1, 1, None) for n in range(30)]
    assert not isinstance(seen.config, Missing)
    assert seen.config.version == 7


async def test_a_slot_that_moved_is_followed(cluster: RedisCluster) -> None:
    """A redirect costs a queue no reading."""
    new = next(server for server in cluster.servers if server is not cluster.owner("llm-chat"))
    async with bench(Endpoint(cluster.url)) as made:
        assert await made.backlogs("llm-chat") == [EMPTY]
        cluster.move_slot("llm-chat", new)
        with new.client() as client:
            client.rpush("llm-chat", "a")
            client.hset("{llm-chat}:claimed", "h", "x")
        for _ in range(2):
            assert await made.backlogs("llm-chat") == [QueueBacklog(1, 0, 1, None)]


async def test_a_node_that_is_away_costs_its_own_queues() -> None:
    """The others are read on; the cluster's map is read anew beside, and the node once it is back."""
    with RedisCluster() as cluster:
        for server in cluster.servers:
            with server.client() as client:
                client.config_set("cluster-require-full-coverage", "no")
        away = cluster.owner("llm-chat")
        other = next(f"q-{n}" for n in range(100) if cluster.owner(f"q-{n}") is not away)
        async with bench(Endpoint(cluster.url), timeout=1.5) as made:
            assert await made.backlogs("llm-chat", other) == [EMPTY, EMPTY]
            away.kill()
            missing = Missing(f"RedisUnreachable at {Endpoint(cluster.url).shown}")
            for _ in range(3):
                assert await made.backlogs("llm-chat", other) == [missing, EMPTY]
            await asyncio.to_thread(away.restart)

            async def back() -> bool:
                return await made.backlogs("llm-chat", other) == [EMPTY, EMPTY]

            await eventually(back, 10, "a reading of all")


async def test_a_silent_node_costs_one_timeout(cluster: RedisCluster) -> None:
    """A node that stands still makes the reading Missing within its time, and late answers are no answers."""
    still = cluster.owner("llm-chat")
    async with bench(Endpoint(cluster.url), timeout=0.3) as made:
        assert await made.backlogs("llm-chat") == [EMPTY]
        os.kill(still.pid, signal.SIGSTOP)
        try:
            shown = Endpoint(cluster.url).shown
            assert await asyncio.wait_for(made.backlogs("llm-chat"), 5) == [Missing(f"RedisTimeout at {shown}")]
        finally:
            os.kill(still.pid, signal.SIGCONT)

        async def back() -> bool:
            return await made.backlogs("llm-chat") == [EMPTY]

        await eventually(back, 15, "a reading")


async def test_a_documented_user_of_a_cluster_will_do(cluster: RedisCluster) -> None:
    """The user that docs/configuration.md proposes, with the two rights that it names for clusters."""
    documented = (Path(__file__).parents[1] / "docs" / "configuration.md").read_text()
    assert "in a cluster also `+cluster|slots +command`" in " ".join(documented.split())
    for server in cluster.servers:
        with server.client() as client:
            for line in documented_user():
                client.execute_command(line)
            client.execute_command("ACL SETUSER llmpool-operator +cluster|slots +command")
    async with bench(Endpoint(cluster.url, username=b"llmpool-operator", password=b"PASSWORD")) as made:
        assert await made.backlogs("llm-chat", "q-1", "q-2", "q-3") == [EMPTY] * 4


# --- TLS


@pytest.mark.parametrize(
    ("options", "answers"),
    [
        pytest.param("?ssl_ca_certs={ca}", True, id="known authority"),
        pytest.param("?ssl_cert_reqs=none&ssl_check_hostname=false", True, id="unchecked"),
        pytest.param("", False, id="unknown authority"),
    ],
)
async def test_tls(certificates: Certificates, options: str, answers: bool) -> None:
    """A server is trusted by its authority alone; one that isn't says so by a word of its own."""
    with TlsServer(certificates) as server:
        endpoint = Endpoint(server.tls_url + options.format(ca=certificates.ca))
        async with bench(endpoint) as made:
            expected = EMPTY if answers else Missing(f"RedisTLS at 127.0.0.1:{server.tls_port}")
            assert await made.backlogs("llm-chat") == [expected]


async def test_a_unix_socket() -> None:
    """`llmpool local` on a machine whose Redis has no port."""
    with RedisServer(unix_socket=True) as server:
        async with bench(Endpoint(server.url)) as made:
            assert await made.backlogs("llm-chat") == [EMPTY]
