"""Long outages and every place to die: what a pool's size does meanwhile, and how soon all is well afterwards.

    python benchmarks/operator_faults.py [--kubeconfig FILE] [--only api-60 api-300 redis-60 twins kills]

Starts its own redis-server and its own `llmpool-operator`, restarted whenever it ends as a kubelet does, behind a proxy
that fails on demand. Each outage: three pools with work, new work in the middle of it,
then the seconds until every pool has the size that its queue asks for. `twins`: two operators without an election for
five minutes under changing work. `kills`: the life 0 -> 5 -> 2 -> 0 of a pool once for each k, killed after the k-th
write. The last line is JSON. Exit status 1: a pool fell to zero with work, passed its maximum, or did not come back.
"""

import argparse
import asyncio
import json
import random
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# The repository instead of this folder: queue.py here would hide the standard library's.
sys.path[0] = str(Path(__file__).parents[1])

from llmpool_operator.kube import KubeAPI
from tests.support.api_faults import APIFaults, Call
from tests.support.control_plane import ControlPlane
from tests.support.operator_process import OperatorProcess, Pools, apply_crd
from tests.support.operator_scenario import MAXIMUM, SIZES, make, play, remove, set_work, sizes_written
from tests.support.redis_server import RedisServer

NAMES = ("one", "two", "three")
CONVERGED_S = 30.0
"""An outage that is over is made up for within this; the longest pause between attempts is half of it."""
ALL = ("api-60", "api-300", "redis-60", "twins", "kills")


class Bench:
    """The cluster, the proxy, Redis, and what was seen."""

    def __init__(self, pools: Pools, api: APIFaults, server: RedisServer, folder: Path) -> None:
        self.pools, self.api, self.server, self.folder = pools, api, server, folder
        self.wrong: list[str] = []

    def operator(self, name: str, **settings: str) -> OperatorProcess:
        log = self.folder / f"{name}.log"
        return OperatorProcess(self.api.kubeconfig, self.pools.namespace, log, **settings)

    async def begin(self) -> None:
        """Three pools with two workers each."""
        for name in NAMES:
            await make(self.pools, name, self.server.url)
            set_work(self.server, name, 10)
        for name in NAMES:
            await self.pools.sized(name, 2, 60)

    async def sizes(self) -> dict[str, int | None]:
        return {name: await self.pools.replicas(name) for name in NAMES}

    async def watch_sizes(self, seconds: float, *, allowed: set[int]) -> None:
        """Look at the sizes for so long; whatever isn't allowed is wrong."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for name, size in (await self.sizes()).items():
                if size is not None and size not in allowed:
                    self.wrong.append(f"{name} had {size}, allowed {sorted(allowed)}")
            await asyncio.sleep(0.5)

    async def converges(self, wanted: dict[str, int]) -> float:
        """Seconds until all have these sizes."""
        began = time.monotonic()
        for name, size in wanted.items():
            await self.pools.sized(name, size, 120)
        took = time.monotonic() - began
        if took > CONVERGED_S:
            self.wrong.append(f"took {took:.0f} s to converge")
        return took

    async def end(self) -> None:
        for name in NAMES:
            if await self.pools.deployment(name) is not None:
                await remove(self.pools, name)


async def api_outage(bench: Bench, seconds: float) -> dict[str, Any]:
    """Nobody at the API server's address, work changes meanwhile; the leader exits and its successor stands by."""
    operator = bench.operator(f"api-{seconds:g}")
    async with operator.kept_alive():
        await bench.begin()
        async with bench.api.away():
            for name, jobs in zip(NAMES, (25, 5, 1000), strict=True):
                set_work(bench.server, name, jobs)
            await bench.watch_sizes(seconds, allowed={2})
        took = await bench.converges(dict(zip(NAMES, (5, 1, MAXIMUM), strict=True)))
    await bench.end()
    return {"converged_s": round(took, 2), "exits": operator.ends}


async def redis_outage(bench: Bench, seconds: float) -> dict[str, Any]:
    """Redis gone: sizes stay."""
    operator = bench.operator(f"redis-{seconds:g}")
    async with operator.kept_alive():
        await bench.begin()
        bench.server.kill()
        await bench.watch_sizes(seconds, allowed={2})
        bench.server.restart()
        for name, jobs in zip(NAMES, (25, 5, 1000), strict=True):
            set_work(bench.server, name, jobs)
        took = await bench.converges(dict(zip(NAMES, (5, 1, MAXIMUM), strict=True)))
    await bench.end()
    return {"converged_s": round(took, 2), "exits": operator.ends}


async def twins(bench: Bench, seconds: float) -> dict[str, Any]:
    """Two operators that both lead. Each step of the work must become one size, and none in between."""
    dice, steps = random.Random(7), 0
    wanted: dict[str, list[int]] = {name: [2] for name in NAMES}
    with bench.operator("first", LEADER_ELECTION="false"), bench.operator("second", LEADER_ELECTION="false"):
        await bench.begin()
        mark, until = len(bench.api.done), time.monotonic() + seconds
        while time.monotonic() < until:
            for name in NAMES:
                size = dice.choice([size for size in range(1, MAXIMUM + 1) if size != wanted[name][-1]])
                set_work(bench.server, name, size * 5)
                wanted[name].append(size)
            steps += 1
            for name in NAMES:
                await bench.pools.sized(name, wanted[name][-1], 60)
            await asyncio.sleep(dice.uniform(0, 5))
        writes = [done for done in bench.api.done[mark:] if done.call.write]
    for name in NAMES:
        path = sizes_written(bench.api, name)
        if path[-len(wanted[name]) :] != wanted[name]:
            bench.wrong.append(f"{name} oscillated: wanted {wanted[name]}, got {path}")
    await bench.end()
    return {"steps": steps, "writes": len(writes), "conflicts": len([w for w in writes if w.status == 409])}


def strike(api: APIFaults, operator: OperatorProcess, k: int) -> list[str]:
    """Kill the operator after its k-th write from now. Gives a list that will name it."""
    start, struck = api.written, []

    def kill(number: int, call: Call) -> None:
        if number - start == k:
            struck.append(f"{call.verb} {call.resource}")
            operator.child.kill()

    api.after_write = kill
    return struck


async def kills(bench: Bench) -> dict[str, Any]:
    """One life for each k, until a life has fewer than k writes."""
    k = 0
    while True:
        k += 1
        name, first = f"k{k}", len(bench.api.done)
        operator = bench.operator(name, LEADER_ELECTION="false")
        struck = strike(bench.api, operator, k)
        async with operator.kept_alive():
            await play(bench.pools, bench.server, name, timeout_s=60)
        if (path := sizes_written(bench.api, name)) != SIZES:
            bench.wrong.append(f"killed after write {k}: {path}")
        print(f"k={k}: {struck or 'no such write'}, {len(bench.api.done) - first} calls", file=sys.stderr)
        await remove(bench.pools, name)
        if not struck:
            bench.api.after_write = None
            return {"lives": k}


async def measure(kubeconfig: Path, chosen: list[str]) -> dict[str, Any]:
    direct, namespace = KubeAPI(str(kubeconfig)), f"llmpool-bench-{secrets.token_hex(3)}"
    await direct.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
    told: dict[str, Any] = {}
    try:
        await apply_crd(direct)
        with tempfile.TemporaryDirectory() as folder, RedisServer(appendonly=True) as server:
            async with APIFaults(kubeconfig, Path(folder)) as api:
                bench = Bench(Pools(direct, namespace), api, server, Path(folder))
                runs = {
                    "api-60": lambda: api_outage(bench, 60),
                    "api-300": lambda: api_outage(bench, 300),
                    "redis-60": lambda: redis_outage(bench, 60),
                    "twins": lambda: twins(bench, 300),
                    "kills": lambda: kills(bench),
                }
                for name in chosen:
                    told[name] = await runs[name]()
                    print(f"{name}: {json.dumps(told[name])}", file=sys.stderr)
                told["wrong"] = bench.wrong
    finally:
        await direct.delete(f"/api/v1/namespaces/{namespace}")
        await direct.close()
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kubeconfig", type=Path, help="a cluster; without one a private control plane")
    parser.add_argument("--only", nargs="+", choices=ALL, default=list(ALL))
    args = parser.parse_args()
    if args.kubeconfig is not None:
        told = asyncio.run(measure(args.kubeconfig, args.only))
    else:
        with ControlPlane() as plane:
            told = asyncio.run(measure(plane.kubeconfig, args.only))
    print(json.dumps(told))
    return 1 if told["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
