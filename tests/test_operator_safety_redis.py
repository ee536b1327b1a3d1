"""What the operator does while Redis is slow, locked, read-only or holds something else: sizes hold, and it is said."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
import redis

from tests.support.control_plane import ControlPlane
from tests.support.operator_process import OperatorProcess, Pools
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.control_plane
IDLE_S = 1
Trouble: TypeAlias = Callable[[RedisServer], Callable[[], None]]
"""Begins it, and gives what ends it."""


@pytest.fixture
def operator(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> OperatorProcess:
    """An operator of the namespace, not yet started."""
    return OperatorProcess(control_plane.kubeconfig, namespace, tmp_path / "operator.log")


def push(server: RedisServer, jobs: int) -> None:
    with server.client() as client:
        client.rpush("llm-chat", *["{}"] * jobs)


def stop(server: RedisServer) -> Callable[[], None]:
    os.kill(server.pid, signal.SIGSTOP)
    return lambda: os.kill(server.pid, signal.SIGCONT)


def lock(server: RedisServer) -> Callable[[], None]:
    """A password that the pool doesn't have; whoever was in is thrown out."""
    with server.client() as client:
        client.config_set("requirepass", "s3cret")
        client.client_kill_filter(_type="normal", skipme=True)

    def unlock() -> None:
        with redis.Redis.from_url(server.url, password="s3cret") as client:
            client.config_set("requirepass", "")

    return unlock


def other_type(server: RedisServer) -> Callable[[], None]:
    """The queue's name is a string's now."""
    with server.client() as client:
        client.rename("llm-chat", "kept")
        client.set("llm-chat", "not a list")

    def back() -> None:
        with server.client() as client:
            client.rename("kept", "llm-chat")

    return back


def loading(server: RedisServer) -> Callable[[], None]:
    """Nobody there, and then somebody without the data, as after a failover to an empty one."""
    server.kill()
    return server.restart


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(stop, id="silent"),
        pytest.param(lock, id="NOAUTH"),
        pytest.param(other_type, id="WRONGTYPE"),
        pytest.param(loading, id="gone"),
    ],
)
async def test_what_cannot_be_read_holds_the_size(
    pools: Pools,
    operator: OperatorProcess,
    own_redis: RedisServer,
    trouble: Trouble,
) -> None:
    """Longer than idleSeconds without a reading: the size stays, the condition says MetricsMissing, then it goes on."""
    push(own_redis, 20)
    with operator:
        await pools.make("chat", own_redis.url, scaling={"idleSeconds": IDLE_S})
        await pools.sized("chat", 4)
        over = trouble(own_redis)
        try:
            await pools.reaches("chat", "MetricsAvailable", ("False", "MetricsMissing"))
            for _ in range(10):
                await asyncio.sleep(0.3)
                assert await pools.replicas("chat") == 4
            assert "s3cret" not in str(await pools.status("chat")) + operator.child.log.read_text()
        finally:
            over()
        push(own_redis, 10)
        await pools.sized("chat", 6)
        await pools.reaches("chat", "MetricsAvailable", ("True", "MetricsFound"))


async def test_a_read_only_redis_still_sizes_upwards(
    pools: Pools, operator: OperatorProcess, own_redis: RedisServer
) -> None:
    """A Redis that takes no writes can be read: more work means more workers, and the size never falls by mistake."""
    push(own_redis, 10)
    with operator:
        await pools.make("chat", own_redis.url, scaling={"idleSeconds": IDLE_S})
        await pools.sized("chat", 2)
        push(own_redis, 20)
        with own_redis.client() as client:
            client.replicaof("127.0.0.1", "1")
        await pools.sized("chat", 6)
        await asyncio.sleep(3)
        assert await pools.replicas("chat") == 6
        with own_redis.client() as client:
            client.replicaof("NO", "ONE")
            client.delete("llm-chat")
        await pools.sized("chat", 0, 20)


async def test_a_queue_of_absurd_length_stops_at_the_maximum(
    pools: Pools, operator: OperatorProcess, own_redis: RedisServer
) -> None:
    """Weights and targets that ask for 1e9 workers give maxReplicas, and garbage beside the queue gives nothing."""
    with own_redis.client() as client:
        client.zadd("{llm-chat}:delayed", {"inf": float("inf"), "-inf": float("-inf"), "far": 1e300})
        client.hset(f"{{pool:{pools.namespace}/chat}}:workers", mapping={"w1": "{", "w2": "[]", "w3": '{"busy": NaN}'})
    push(own_redis, 1000)
    with operator:
        await pools.make(
            "chat",
            own_redis.url,
            queues=[{"name": "llm-chat", "weight": 1000}],
            scaling={"metrics": [{"type": "QueueDepth", "queueDepth": {"averageValue": "1m"}}]},
        )
        await pools.sized("chat", 20)
        await asyncio.sleep(2)
        assert await pools.replicas("chat") == 20
        await pools.reaches("chat", "ScalingLimited", ("True", "TooManyReplicas"))
