"""Workers killed with -9 under load: what is lost, answered twice, and how soon a dead worker's jobs are taken back.

    python benchmarks/kill.py [--kills 5] [--jobs 1000] [--workers 3] [--every-s 3] [--lease-ms 30000]

A private redis-server, a scripted model server, real workers. Every few seconds a worker that runs jobs is killed with
-9 and started anew. For each kill: the time from it until none of the jobs that this worker held was held in its name
any more. At the end every job must have one result, announced once. (A job that loses three workers in a row is taken
for their killer and fails, as it should: with a short lease and quick kills that may hit an innocent one.)
"""

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

# In place of this folder, whose queue.py would hide the standard library's from everything imported below.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import redis

from llmpool_contract.element import decode
from tests.support.ollama_process import OllamaProcess
from tests.support.redis_server import RedisServer
from tests.support.worker_process import WorkerProcess, chat_job, results

QUEUE = "llm-chat"
CLAIMED = b"{llm-chat}:claimed"
GRACE_S = 5.0


def held_by(client: redis.Redis, worker: str) -> set[str]:
    """Handles of a worker's claims."""
    return {handle.decode() for handle, raw in client.hgetall(CLAIMED).items() if decode(raw).worker == worker}


@dataclass
class Kill:
    """One death, and what became of its claims."""

    worker: str
    at: float
    held: set[str]
    took_s: float | None = None

    def look(self, client: redis.Redis) -> None:
        """Note when the last of its claims is gone."""
        if self.took_s is None and not self.held & {handle.decode() for handle in client.hkeys(CLAIMED)}:
            self.took_s = time.monotonic() - self.at
            print(f"{self.worker} held {len(self.held)} jobs, taken back after {self.took_s:.1f} s")


def kill_one(client: redis.Redis, worker: WorkerProcess) -> Kill:
    while not held_by(client, worker.worker_id):
        time.sleep(0.01)
    worker.child.kill()
    return Kill(worker.worker_id, time.monotonic(), held_by(client, worker.worker_id))


def kill_and_wait(
    client: redis.Redis, workers: list[WorkerProcess], ids: list[str], kills: int, every_s: float
) -> list[Kill]:
    """Kill on schedule until all is answered."""
    deaths: list[Kill] = []
    while len(deaths) < kills or any(kill.took_s is None for kill in deaths) or not all(answered(client, ids)):
        if len(deaths) < kills and (not deaths or time.monotonic() - deaths[-1].at >= every_s):
            victim = workers[len(deaths) % len(workers)]
            deaths.append(kill_one(client, victim))
            victim.start()
        for kill in deaths:
            kill.look(client)
        time.sleep(0.05)
    return deaths


def answered(client: redis.Redis, ids: list[str]) -> list[bool]:
    return [bool(answer) for answer in results(client, QUEUE, ids).values()]


def run(args: argparse.Namespace) -> bool:
    ids = [f"job-{n}" for n in range(args.jobs)]
    limit_s = args.lease_ms / 1_000 + GRACE_S
    with RedisServer(appendonly=True) as server, OllamaProcess() as ollama:
        ollama.script(tokens=10, delay_s=args.job_s / 10)
        env = {"OLLAMA_BASE_URL": ollama.url, "WORKER_LEASE": str(args.lease_ms), "LOG_LEVEL": "warning"}
        workers = [WorkerProcess(server.url, worker_id=f"w{n}", **env) for n in range(args.workers)]
        for worker in workers:
            worker.start()
        client = redis.Redis.from_url(server.url)
        announced: Counter[str] = Counter()
        events = client.pubsub(ignore_subscribe_messages=True)
        events.subscribe("{llm-chat}:events")
        client.rpush(QUEUE, *[chat_job(job_id) for job_id in ids])
        deaths = kill_and_wait(client, workers, ids, args.kills, args.every_s)
        answers = results(client, QUEUE, ids)
        while message := events.get_message(timeout=0.5):
            announced[message["data"].decode()] += 1
        stats = {name.decode(): int(value) for name, value in client.hgetall("{llm-chat}:stats").items()}
        for worker in workers:
            worker.child.stop()
    slowest = max(kill.took_s or 0.0 for kill in deaths)
    lost = sum(1 for answer in answers.values() if not answer)
    twice = sum(1 for count in announced.values() if count > 1)
    failed = sum(1 for answer in answers.values() if answer and answer["status"] != "succeeded")
    print(
        f"{args.kills} kills under {args.jobs} jobs: {lost} lost, {failed} failed, {twice} answered twice, "
        f"slowest taken back {slowest:.1f} s (lease {args.lease_ms / 1_000:g} s + {GRACE_S:g} s allowed), "
        f"{json.dumps(stats)}"
    )
    return lost == failed == twice == 0 and slowest <= limit_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--every-s", type=float, default=3.0)
    parser.add_argument("--lease-ms", type=int, default=30_000)
    parser.add_argument("--job-s", type=float, default=2.0, help="seconds that one job takes")
    sys.exit(0 if run(parser.parse_args()) else 1)


if __name__ == "__main__":
    main()
