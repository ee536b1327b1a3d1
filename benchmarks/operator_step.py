"""How long a step of the queue takes to become `replicas`: RPUSH of N jobs -> the Deployment's spec is patched.

    python benchmarks/operator_step.py [--kubeconfig ~/.kube/config] [--steps 30] [--jobs 320] [--pools 100]

Starts its own redis-server and its own `llmpool-operator`, works in a namespace of its own, and watches the Deployment.
Each step begins at a random moment of the operator's tick, from a pool at zero; of --pools, one steps. The bar:
p99 <= 1.5 s over 30 steps.
The last line is JSON. Exit status 1: the bar was missed.
"""

import argparse
import asyncio
import json
import random
import secrets
import statistics
import sys
import tempfile
import time
from pathlib import Path

# The repository instead of this folder: tests.support starts the same parts for the tests, and queue.py here would hide
# the standard library's.
sys.path[0] = str(Path(__file__).parents[1])

from llmpool_operator.kube import KubeAPI, pool_path, pools_path
from tests.support.control_plane import ControlPlane
from tests.support.operator_process import OperatorProcess, Pools, apply_crd, pool_document
from tests.support.redis_server import RedisServer

BAR_P99_S = 1.5
JOBS_PER_WORKER = 5


async def step(pools: Pools, server: RedisServer, jobs: int) -> float:
    """Seconds from the push's answer to the patched size, and the way back to zero outside of the measurement."""
    await asyncio.sleep(random.uniform(0.0, 1.0))
    wanted = jobs // JOBS_PER_WORKER
    with server.client() as client:
        began = time.monotonic()
        client.rpush("llm-chat", *["{}"] * jobs)
        await pools.sized("chat", wanted, 30)
        took = time.monotonic() - began
        client.delete("llm-chat")
    await pools.sized("chat", 0, 30)
    return took


async def make_others(api: KubeAPI, pools: Pools, url: str, count: int) -> None:
    """Pools whose queues stay empty: they are decided all the same."""
    names = [f"other-{number}" for number in range(count)]
    for name in names:
        await api.create(
            pools_path(pools.namespace), pool_document(pools.namespace, name, url, queues=[{"name": name}])
        )
    for name in names:
        await pools.sized(name, 0, 120)


async def measure(kubeconfig: Path, steps: int, jobs: int, others: int) -> list[float]:
    api, namespace = KubeAPI(str(kubeconfig)), f"llmpool-bench-{secrets.token_hex(3)}"
    await api.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
    try:
        await apply_crd(api)
        pools = Pools(api, namespace)
        with tempfile.TemporaryDirectory() as folder, RedisServer() as server:
            log = Path(folder) / "operator.log"
            # Idle at once and no limit on the way down, so that each step starts from zero.
            scaling = {"maxReplicas": 1000, "idleSeconds": 0}
            pool = pool_document(namespace, "chat", server.url, scaling=scaling)
            with OperatorProcess(kubeconfig, namespace, log):
                await api.create(pools_path(namespace), pool)
                await pools.sized("chat", 0, 30)
                await make_others(api, pools, server.url, others)
                taken = []
                for number in range(steps):
                    taken.append(await step(pools, server, jobs))
                    print(f"step {number + 1}: {taken[-1]:.3f} s", file=sys.stderr)
                await api.delete(pool_path(namespace, "chat"))
                return taken
    finally:
        await api.delete(f"/api/v1/namespaces/{namespace}")
        await api.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kubeconfig", type=Path, help="a cluster; without one a private control plane")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--jobs", type=int, default=320, help="per step; five make a worker")
    parser.add_argument("--pools", type=int, default=100, help="that the operator has; one of them steps")
    args = parser.parse_args()
    given = args.steps, args.jobs, args.pools - 1
    if args.kubeconfig is not None:
        taken = sorted(asyncio.run(measure(args.kubeconfig, *given)))
    else:  # a private control plane, as the tests have it
        with ControlPlane() as plane:
            taken = sorted(asyncio.run(measure(plane.kubeconfig, *given)))
    p99 = taken[min(len(taken) - 1, int(len(taken) * 0.99))]
    told = {
        "steps": len(taken),
        "p50_s": statistics.median(taken),
        "p99_s": p99,
        "max_s": taken[-1],
        "bar_p99_s": BAR_P99_S,
    }
    print(json.dumps({key: round(value, 3) for key, value in told.items()}))
    return 0 if p99 <= BAR_P99_S else 1


if __name__ == "__main__":
    sys.exit(main())
