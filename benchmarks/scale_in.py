"""Scale-ins under load: how many generations they cut, and how many jobs ran twice.

    python benchmarks/scale_in.py [--kubeconfig FILE --image TAG --host ADDRESS] [--scale-ins 20] [--shortest-s 10]
                                  [--longest-s 60] [--spare-operator]

Load goes up and down between two levels; each job is one generation of the given length at a scripted model server, and
each worker runs up to four. The way down asks for fewer workers than there are busy ones, so most scale-ins meet a
worker with work. Unless spared, the operator is killed with -9 while a drain is under way, once per scale-in, and
started again. At the end the pool must come to zero by itself.

With --kubeconfig the pods are real ones of that cluster: --image names a worker's image that its nodes have, --host an
address of this machine that pods reach. Without, a private control plane and the tests' kubelet, whose pods are real
worker processes. The last line is JSON. Exit status 1: something was cut, lost or run twice.
"""

import argparse
import asyncio
import json
import random
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parent.parent)

import redis.asyncio

from llmpool_contract import PoolKeys
from llmpool_operator.kube import KubeAPI, pools_path
from tests.support.control_plane import ControlPlane
from tests.support.kubelet import Kubelet
from tests.support.ollama_process import OllamaProcess
from tests.support.operator_process import OperatorProcess, Pools, apply_crd, pool_document
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually
from tests.support.worker_process import chat_job

QUEUE, NAME = "llm-chat", "chat"
TOKEN_S = 0.1
PER_WORKER, SLOTS = 2, 4
HIGH, LOW = 12, 2
IDLE_S = 10


@dataclass
class Run:
    """What happened so far."""

    pools: Pools
    redis: redis.asyncio.Redis
    lengths: tuple[float, float]
    ids: list[str] = field(default_factory=list)
    announced: Counter[str] = field(default_factory=Counter)
    sizes: list[int] = field(default_factory=list)
    kills: int = 0
    spared: bool = False
    """Whether the operator is left alone from now on."""

    @property
    def scale_ins(self) -> int:
        """Times that the Deployment became smaller while there was work."""
        return sum(after < before for before, after in zip(self.sizes, self.sizes[1:], strict=False) if after > 0)

    @property
    def size(self) -> int:
        """The last one seen."""
        return self.sizes[-1] if self.sizes else 0

    @property
    def outstanding(self) -> int:
        return len(self.ids) - len(self.announced)

    async def push(self, level: int) -> None:
        """Keep so many jobs outstanding."""
        while self.outstanding < level:
            tokens = int(random.uniform(*self.lengths) / TOKEN_S)
            self.ids.append(f"job-{len(self.ids)}")
            await self.redis.rpush(QUEUE, chat_job(self.ids[-1], options={"num_predict": tokens}))

    async def watch_sizes(self) -> None:
        while True:
            size = await self.pools.replicas(NAME)
            if size is not None and (not self.sizes or self.sizes[-1] != size):
                self.sizes.append(size)
                print(f"{time.strftime('%X')} size {size}, {self.outstanding} jobs outstanding", file=sys.stderr)
            await asyncio.sleep(0.1)

    async def watch_events(self) -> None:
        async with self.redis.pubsub(ignore_subscribe_messages=True) as events:
            await events.subscribe(f"{{{QUEUE}}}:events")
            async for message in events.listen():
                self.announced[message["data"]] += 1

    async def draining(self) -> bool:
        config = await self.redis.hgetall(PoolKeys(f"{self.pools.namespace}/{NAME}").config)
        return any(name.startswith("drain:") for name in config)


async def load(run: Run, wanted: int) -> None:
    """Up and down until there were enough scale-ins. On the way down a few jobs are always under way."""
    while run.scale_ins < wanted:
        while run.size < HIGH // PER_WORKER:
            await run.push(HIGH)
            await asyncio.sleep(0.1)
        while run.size > LOW // PER_WORKER:
            await run.push(LOW)
            await asyncio.sleep(0.1)


async def kill_operators(run: Run, operator: OperatorProcess) -> None:
    """Once per scale-in, at a random moment of a drain."""
    while True:
        await asyncio.sleep(0.1)
        if run.spared or run.kills > run.scale_ins or not await run.draining():
            continue
        await asyncio.sleep(random.uniform(0, 2))
        operator.child.kill()
        run.kills += 1
        await asyncio.sleep(random.choice((0.5, 3, 20)))  # shorter and longer than a drain's lease
        operator.child.start()


async def scale_in(args: argparse.Namespace, kubeconfig: Path, server: RedisServer, ollama: OllamaProcess) -> bool:
    namespace, api = f"llmpool-bench-{secrets.token_hex(3)}", KubeAPI(str(kubeconfig))
    redis_url = f"redis://{args.host}:{server.port}/0"
    client = redis.asyncio.Redis.from_url(redis_url, decode_responses=True)
    run = Run(Pools(api, namespace), client, (args.shortest_s, args.longest_s))
    ollama.script(tokens=10_000, delay_s=TOKEN_S, num_parallel=HIGH)  # nobody waits at the server for its turn
    await api.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
    await apply_crd(api)
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 0}}
    metrics = [{"type": "QueueDepth", "queueDepth": {"averageValue": PER_WORKER}}]
    scaling = {"maxReplicas": HIGH, "idleSeconds": IDLE_S, "behavior": behavior, "metrics": metrics}
    worker = {"image": args.image, "concurrency": SLOTS, "timeoutSeconds": 120, "drainSeconds": 120}
    pool = pool_document(namespace, NAME, redis_url, scaling=scaling, worker=worker, ollama={"url": ollama.url})
    with tempfile.TemporaryDirectory() as folder:
        operator = OperatorProcess(kubeconfig, namespace, Path(folder) / "operator.log")
        async with pods(args, kubeconfig, namespace), background(run, operator, spare=args.spare_operator):
            with operator:
                await api.create(pools_path(namespace), pool)
                await run.pools.sized(NAME, 0, 60)
                await load(run, args.scale_ins)
                await eventually(lambda: _is(run.outstanding == 0), 3 * args.longest_s, "all jobs settled")
                run.spared = True  # what is left to see is the way to zero
                await run.pools.sized(NAME, 0, IDLE_S + 60)
    passed = await tell(run, ollama)
    await api.delete(f"/api/v1/namespaces/{namespace}")
    await api.close()
    await client.aclose()
    return passed


async def _is(value: bool) -> bool:
    return value


@asynccontextmanager
async def pods(args: argparse.Namespace, kubeconfig: Path, namespace: str) -> AsyncIterator[None]:
    """A kubelet for the private control plane; a real cluster has its own."""
    if args.kubeconfig is not None:
        yield
        return
    async with Kubelet(kubeconfig, namespace):
        yield


@asynccontextmanager
async def background(run: Run, operator: OperatorProcess, *, spare: bool) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(run.watch_sizes()), asyncio.create_task(run.watch_events())]
    if not spare:
        tasks.append(asyncio.create_task(kill_operators(run, operator)))
    yield
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome


async def tell(run: Run, ollama: OllamaProcess) -> bool:
    """Print what came of it. Whether nothing was cut, lost or run twice."""
    raw = await run.redis.mget([f"{{{QUEUE}}}:result:{job_id}" for job_id in run.ids])
    answers: list[dict[str, Any]] = [json.loads(answer) for answer in raw if answer]
    calls = ollama.seen()["calls"]
    told = {
        "jobs": len(run.ids),
        "scale_ins": run.scale_ins,
        "operator_kills": run.kills,
        "lost": len(run.ids) - len(answers),
        "failed": sum(answer["status"] != "succeeded" for answer in answers),
        "cut": sum(call["outcome"] != "answered" for call in calls),
        "run_twice": len(calls) - len(run.ids),
        "answered_twice": sum(count > 1 for count in run.announced.values()),
        "more_than_one_attempt": sum(answer["attempts"] > 1 for answer in answers),
        "sizes": run.sizes,
    }
    print(json.dumps(told))
    for answer in (answer for answer in answers if answer["status"] != "succeeded"):
        print(
            answer["id"], answer["status"], answer["attempts"], answer.get("error"), answer["timings"], file=sys.stderr
        )
    for call in (call for call in calls if call["outcome"] != "answered"):
        told_call = {name: call[name] for name in ("path", "began_at", "ended_at", "fault", "outcome")}
        print(told_call, file=sys.stderr)
    bad = ("lost", "failed", "cut", "run_twice", "answered_twice", "more_than_one_attempt")
    return not any(told[name] for name in bad) and run.size == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kubeconfig", type=Path)
    parser.add_argument("--image", default="worker:test")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--scale-ins", type=int, default=20)
    parser.add_argument("--shortest-s", type=float, default=10)
    parser.add_argument("--longest-s", type=float, default=60)
    parser.add_argument("--spare-operator", action="store_true", help="don't kill it")
    args = parser.parse_args()
    config = {"bind": f"127.0.0.1 {args.host}", "protected-mode": "no"} if args.host != "127.0.0.1" else {}
    with RedisServer(config=config) as server, OllamaProcess(args.host) as ollama:
        if args.kubeconfig is not None:
            return 0 if asyncio.run(scale_in(args, args.kubeconfig, server, ollama)) else 1
        with ControlPlane() as plane:
            return 0 if asyncio.run(scale_in(args, plane.kubeconfig, server, ollama)) else 1


if __name__ == "__main__":
    sys.exit(main())
