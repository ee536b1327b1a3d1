"""What the operator costs with many pools, and how soon all of many pools that step at once are sized.

    python benchmarks/operator_scale.py [--kubeconfig ~/.kube/config] [--pools 1000] [--seconds 30]
    python benchmarks/operator_scale.py --pools 200 --step 200 [--rounds 5]

Starts its own redis-server and its own `llmpool-operator`, and makes the pools in a namespace of its own; every tenth
pool has a worker's worth of work that never goes away. Then it looks on from outside for --seconds without any change,
and as long again while a twentieth of the queues changes each second. With --step M it makes M queues step at once
instead, --rounds times. Bars: with 1,000 pools each is decided within 2 s, with 5,000 within 5 s, at half a core and
250 MB, and nothing is written while nothing changes; 200 pools that step at once are all patched within 3 s.
The last line is JSON. Exit status 1: a bar was missed.
"""

import argparse
import asyncio
import json
import random
import secrets
import signal
import sys
import tempfile
import time
from pathlib import Path

# The repository instead of this folder: tests.support starts the same parts for the tests, and queue.py here would hide
# the standard library's.
sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.operator_seen import (
    Server,
    cpu_seconds,
    memory_mb,
    monitored,
    own_buckets,
    own_periods,
    summary,
)
from llmpool_operator.kube import KubeAPI, pools_path
from tests.support.api_calls import writes
from tests.support.control_plane import ControlPlane
from tests.support.operator_process import OperatorProcess, apply_crd, pool_document
from tests.support.redis_server import RedisServer

BAR_CPU, BAR_MB, BAR_STEP_S = 0.5, 250.0, 3.0
SETTLED_S = 5.0  # without a write, after the last Deployment is there: statuses, applies and the watches' echoes
JOBS_PER_WORKER = 5


def name_of(number: int) -> str:
    return f"q-{number:05d}"


async def make_pools(api: KubeAPI, namespace: str, server: RedisServer, pools: int) -> float:
    """Seconds that it took. Idle at once, no limit on the way down, so that steps can be repeated."""
    began, limit = time.monotonic(), asyncio.Semaphore(16)

    async def make(number: int) -> None:
        scaling = {"maxReplicas": 1000, "idleSeconds": 0}
        name = name_of(number)
        async with limit:
            document = pool_document(namespace, name, server.url, scaling=scaling, queues=[{"name": name}])
            await api.create(pools_path(namespace), document)

    await asyncio.gather(*(make(number) for number in range(pools)))
    return time.monotonic() - began


async def all_there(seen: Server, wanted: dict[str, int], timeout_s: float) -> dict[str, float]:
    """When each Deployment first asked for what is wanted, monotonic seconds."""
    at: dict[str, float] = {}
    deadline = time.monotonic() + timeout_s
    while len(at) < len(wanted):
        seen.told.clear()
        now = time.monotonic()
        at.update({name: now for name, size in wanted.items() if name not in at and seen.sizes.get(name) == size})
        if now > deadline:
            missing = sorted(set(wanted) - set(at))
            raise TimeoutError(f"{len(missing)} Deployments are not sized after {timeout_s:g} s, first {missing[:3]}")
        try:
            async with asyncio.timeout(1):
                await seen.told.wait()
        except TimeoutError:
            continue  # the deadline is looked at
    return at


async def settled(seen: Server, timeout_s: float) -> None:
    """Wait until nothing has been written for a while."""
    deadline, since, before = time.monotonic() + timeout_s, time.monotonic(), await seen.calls()
    while time.monotonic() < min(deadline, since + SETTLED_S):
        await asyncio.sleep(1)
        now = await seen.calls()
        if writes(before, now):
            since, before = time.monotonic(), now


async def cost(operator: OperatorProcess, seen: Server, server: RedisServer, seconds: float, pools: int) -> dict:
    """What the operator does and costs from now on, for so long."""
    pid = operator.child.pid
    buckets, calls = await asyncio.to_thread(own_buckets, operator), await seen.calls()
    began, cpu = time.monotonic(), cpu_seconds(pid)
    await asyncio.sleep(seconds)
    spent, took = cpu_seconds(pid) - cpu, time.monotonic() - began
    periods = own_periods(buckets, await asyncio.to_thread(own_buckets, operator))
    after = await seen.calls()
    rss, peak = memory_mb(pid)
    # Last, because MONITOR costs this machine's cores something too.
    reads = await monitored(server, min(seconds, max(10.0, pools / 250)))
    by_verb = {kind: round(count / took, 2) for kind, count in sorted((after - calls).items())}
    return {
        **reads,
        **periods,
        "cpu_cores": spent / took,
        "cpu_ms_per_pool_s": 1000 * spent / took / pools,
        "rss_mb": rss,
        "peak_mb": peak,
        "writes": writes(calls, after),
        "calls_per_s": by_verb,
    }


async def move(server: RedisServer, pools: int) -> None:
    """Change a twentieth of the queues each second, between nothing and ten workers' worth."""
    while True:
        with server.client() as client, client.pipeline(transaction=False) as pipe:
            for number in random.sample(range(pools), max(1, pools // 20)):
                pipe.delete(name_of(number))
                if jobs := random.choice((0, 5, 10, 50)):
                    pipe.rpush(name_of(number), *["{}"] * jobs)
            pipe.execute()
        await asyncio.sleep(1)


async def step(seen: Server, server: RedisServer, pid: int, count: int, jobs: int) -> dict[str, float]:
    """Push to so many queues at a random moment of the tick; then back to zero, outside of the measurement."""
    await asyncio.sleep(random.uniform(1.0, 2.0))
    names = [name_of(number) for number in range(count)]
    cpu = cpu_seconds(pid)
    with server.client() as client, client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.rpush(name, *["{}"] * jobs)
        pipe.execute()
        began = time.monotonic()
        at = await all_there(seen, dict.fromkeys(names, jobs // JOBS_PER_WORKER), 60)
        spent = cpu_seconds(pid) - cpu
        client.delete(*names)
    await all_there(seen, dict.fromkeys(names, 0), 60)
    await asyncio.sleep(6)  # what is told of it
    return {**summary([moment - began for moment in at.values()]), "operator_cpu_s": spent}


async def look_on(operator: OperatorProcess, seen: Server, server: RedisServer, args: argparse.Namespace) -> dict:
    if args.step:
        rounds = []
        for _ in range(args.rounds):
            rounds.append(await step(seen, server, operator.child.pid, args.step, args.jobs))
            print(json.dumps(rounded(rounds[-1])), file=sys.stderr)
        return {"rounds": rounds, "missed": [r["max_s"] for r in rounds if r["max_s"] > BAR_STEP_S]}
    quiet = await cost(operator, seen, server, args.seconds, args.pools)
    print(json.dumps({"quiet": rounded(quiet)}), file=sys.stderr)
    load = asyncio.create_task(move(server, args.pools))
    moving = await cost(operator, seen, server, args.seconds, args.pools)
    load.cancel()
    print(json.dumps({"moving": rounded(moving)}), file=sys.stderr)
    short = [f"quiet {name}" for name in missed(quiet, args.pools)] + (["quiet writes"] if quiet["writes"] else [])
    short += [f"moving {name}" for name in missed(moving, args.pools)]
    return {"quiet": quiet, "moving": moving, "missed": short}


def missed(seen: dict, pools: int) -> list[str]:
    """The bars that were not reached."""
    period = 2.0 if pools <= 1000 else 5.0
    bars = {"seen_p99_s": period, "cpu_cores": BAR_CPU, "rss_mb": BAR_MB}
    return [name for name, bar in bars.items() if not seen[name] <= bar]


def rounded(value):
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return round(value, 3) if isinstance(value, float) else value


async def measure(kubeconfig: Path, args: argparse.Namespace) -> dict:
    api, namespace = KubeAPI(str(kubeconfig)), f"llmpool-bench-{secrets.token_hex(3)}"
    await api.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
    seen = await Server.open(kubeconfig, namespace)
    try:
        await apply_crd(api)
        with tempfile.TemporaryDirectory() as folder, RedisServer() as server:
            log = Path(args.log) if args.log else Path(folder) / "operator.log"
            with server.client() as client:
                for number in range(0, args.pools, 10) if not args.step else ():
                    client.rpush(name_of(number), *["{}"] * JOBS_PER_WORKER)
            made = await make_pools(api, namespace, server, args.pools)
            await seen.watch()
            settings = dict(given.split("=", 1) for given in args.set)
            with OperatorProcess(kubeconfig, namespace, log, **settings) as operator:
                began, calls = time.monotonic(), await seen.calls()
                busy = {name_of(number): int(number % 10 == 0 and not args.step) for number in range(args.pools)}
                await all_there(seen, busy, 60 + args.pools / 5)
                start = {"pools_made_s": made, "deployments_made_s": time.monotonic() - began}
                print(json.dumps({**rounded(start), "pid": operator.child.pid}), file=sys.stderr)
                await settled(seen, 60 + args.pools / 5)
                start["settled_s"] = time.monotonic() - began - SETTLED_S
                start["start_cpu_s"] = cpu_seconds(operator.child.pid)
                start["start_writes"] = writes(calls, await seen.calls())
                print(json.dumps(rounded(start)), file=sys.stderr)
                return {"pools": args.pools, **start, **await look_on(operator, seen, server, args)}
    finally:
        await seen.close()
        await api.delete(f"/api/v1/namespaces/{namespace}")
        await api.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kubeconfig", type=Path, help="a cluster; without one a private control plane")
    parser.add_argument("--pools", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=30, help="of quiet, and of moving load")
    parser.add_argument("--step", type=int, default=0, metavar="M", help="pools that step at once, instead")
    parser.add_argument("--rounds", type=int, default=5, help="how often they do")
    parser.add_argument("--jobs", type=int, default=10, help="per step; five make a worker")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the operator")
    parser.add_argument("--log", help="keep the operator's log in this file")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what was started, as Ctrl-C does
    if args.kubeconfig is not None:
        told = asyncio.run(measure(args.kubeconfig, args))
    else:  # a private control plane, as the tests have it
        with ControlPlane() as plane:
            told = asyncio.run(measure(plane.kubeconfig, args))
    print(json.dumps(rounded(told)))
    return 1 if told["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
