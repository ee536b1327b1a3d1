"""Several operators for the same pools, as processes, on a real API server."""

import asyncio
import json
import os
import signal
import time
from pathlib import Path

import pytest

from llmpool_operator.kube import collection, pools_path
from tests.support.api_faults import APIFaults
from tests.support.control_plane import ControlPlane
from tests.support.operator_process import OperatorProcess, Pools, pool_document
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.control_plane
LEASES = "coordination.k8s.io/v1"


def an_operator(kubeconfig: Path, namespace: str, folder: Path, name: str, **settings: str) -> OperatorProcess:
    return OperatorProcess(kubeconfig, namespace, folder / f"{name}.log", **settings)


async def health(operator: OperatorProcess) -> str:
    """Its word for itself; empty while it doesn't listen."""
    try:
        _, body = await asyncio.to_thread(operator.get, "/healthz")
    except OSError:
        return ""
    return json.loads(body)["status"]


async def is_now(operator: OperatorProcess, word: str, timeout_s: float = 10) -> None:
    async def there() -> bool:
        return await health(operator) == word

    await eventually(there, timeout_s, f"{operator.child.log.stem} is {word}")


async def make(pools: Pools, redis_url: str) -> None:
    document = pool_document(pools.namespace, "chat", redis_url, scaling={"idleSeconds": 600})
    await pools.api.create(pools_path(pools.namespace), document)


def push(server: RedisServer, jobs: int) -> None:
    with server.client() as client:
        client.rpush("llm-chat", *["{}"] * jobs)


async def test_one_leads_and_another_takes_over(
    pools: Pools, control_plane: ControlPlane, redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """The standby serves /healthz and /metrics and writes nothing; it goes on within 20 s of a kill -9 at the default
    lease, and within 3 s of a clean stop."""
    first = an_operator(control_plane.kubeconfig, pools.namespace, tmp_path, "first")
    second = an_operator(control_plane.kubeconfig, pools.namespace, tmp_path, "second")
    with first, second:
        await make(pools, redis_url)
        await eventually(lambda: _split(first, second), 10, "a leader and a standby")
        leader, standby = (first, second) if await health(first) == "ok" else (second, first)
        push(redis_server, 10)
        await pools.sized("chat", 2)
        _, metrics = await asyncio.to_thread(standby.get, "/metrics")
        assert "llm_operator_leader 0.0" in metrics
        assert not [line for line in standby.lines() if line["event"] in ("deployment created", "resized")]

        killed = time.monotonic()
        leader.child.kill()
        push(redis_server, 10)
        await pools.sized("chat", 4, 25)
        assert time.monotonic() - killed <= 25
        _, metrics = await asyncio.to_thread(standby.get, "/metrics")
        assert "llm_operator_leader 1.0" in metrics

        leader.child.start()
        await is_now(leader, "standby")
        stopped = time.monotonic()
        assert await asyncio.to_thread(standby.child.stop) == 0
        push(redis_server, 10)
        await pools.sized("chat", 6)
        assert time.monotonic() - stopped < 12, "far below the lease's 15 s: it was given back"
        leases, _ = await pools.api.list(collection(pools.namespace, "leases", LEASES))
        numbers = [line["transition"] for line in sorted(_led(first) + _led(second), key=lambda one: one["timestamp"])]
        assert len(numbers) == 3
        assert sorted(set(numbers)) == numbers
        assert [lease["spec"]["leaseTransitions"] for lease in leases] == numbers[-1:]


async def _split(*operators: OperatorProcess) -> bool:
    return sorted([await health(one) for one in operators]) == ["ok", "standby"]


def _led(operator: OperatorProcess) -> list[dict]:
    return operator.said("leading")


async def test_one_that_stood_still_ends(
    pools: Pools, control_plane: ControlPlane, redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """Stopped for longer than its lease (SIGSTOP), a leader writes nothing when it goes on, says why, and exits 3."""
    first = an_operator(control_plane.kubeconfig, pools.namespace, tmp_path, "first", LEADER_LEASE_DURATION="4")
    second = an_operator(control_plane.kubeconfig, pools.namespace, tmp_path, "second", LEADER_LEASE_DURATION="4")
    with first:
        await make(pools, redis_url)
        await is_now(first, "ok")
        await pools.sized("chat", 0)
        with second:
            await is_now(second, "standby")
            os.kill(first.child.pid, signal.SIGSTOP)
            await is_now(second, "ok", 15)
            push(redis_server, 15)
            await pools.sized("chat", 3)
            before = len(first.lines())
            os.kill(first.child.pid, signal.SIGCONT)

            async def ended() -> bool:
                return not first.child.running()

            await eventually(ended, 10, "the end of the first")
            assert first.child.stop() == 3
            events = [line["event"] for line in first.lines()[before:]]
            assert "leadership lost: the process ends" in events
            assert "resized" not in events
            push(redis_server, 10)
            await pools.sized("chat", 5)


async def test_a_leader_that_cannot_renew_ends_and_leads_again(
    pools: Pools, control_plane: ControlPlane, redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """Without the API server for longer than its lease it exits once, stands by, and goes on once there is one."""
    async with APIFaults(control_plane.kubeconfig, tmp_path) as api:
        operator = an_operator(api.kubeconfig, pools.namespace, tmp_path, "only", LEADER_LEASE_DURATION="4")
        async with operator.kept_alive():
            await make(pools, redis_url)
            push(redis_server, 10)
            await pools.sized("chat", 2)
            async with api.away():

                async def again() -> bool:
                    return operator.ends == [3] and await health(operator) == "standby"

                await eventually(again, 20, "an end and a new start")
                push(redis_server, 10)
                await asyncio.sleep(6)
                assert operator.ends == [3]
            await pools.sized("chat", 4, 20)


async def test_a_lease_that_may_not_be_used_is_said(
    pools: Pools, control_plane: ControlPlane, redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """Without rights to leases nobody leads: the log names the call, the metric counts, and it goes on once allowed."""
    async with APIFaults(control_plane.kubeconfig, tmp_path) as api:
        operator = an_operator(api.kubeconfig, pools.namespace, tmp_path, "only")
        with operator:
            with api.fault("create", "leases", status=403):
                await make(pools, redis_url)
                push(redis_server, 10)

                async def told() -> bool:
                    return bool(operator.said("lease not reached"))

                await eventually(told, 10, "a line about the lease")
                assert "403 Forbidden" in operator.said("lease not reached")[0]["error"]
                await is_now(operator, "standby")
                _, metrics = await asyncio.to_thread(operator.get, "/metrics")
                assert 'llm_operator_errors_total{kind="Lease"}' in metrics
                assert await pools.deployment("chat") is None
            await pools.sized("chat", 2)


async def test_without_an_election_it_leads_at_once(
    pools: Pools, control_plane: ControlPlane, redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """LEADER_ELECTION=false needs no lease and touches none."""
    push(redis_server, 10)
    off = an_operator(control_plane.kubeconfig, pools.namespace, tmp_path, "off", LEADER_ELECTION="false")
    with off:
        await make(pools, redis_url)
        await pools.sized("chat", 2)
        assert await health(off) == "ok"
    leases, _ = await pools.api.list(collection(pools.namespace, "leases", LEASES))
    assert leases == []
