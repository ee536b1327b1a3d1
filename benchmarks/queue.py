"""No-op jobs through one worker process: jobs/s and CPU per job, on a private redis-server.

    python benchmarks/queue.py [--jobs 20000] [--concurrency 32] [--runs 3]

Each run pushes all jobs by RPUSH, then starts a worker (BACKEND=echo) and measures from its first claim to its last
settlement. Every job must have exactly one result, or the run doesn't count. CPU is the worker process' own, user and
system, and redis-server's beside it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

# In place of this folder, whose queue.py would hide the standard library's from everything imported below.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import psutil
import redis

from tests.support.redis_server import RedisServer

QUEUE = "llm-chat"
CLAIMED = "{llm-chat}:claimed"


def push(client: redis.Redis, jobs: int) -> list[str]:
    ids = [f"job-{n}" for n in range(jobs)]
    body = {"type": "chat", "model": "echo", "messages": [{"role": "user", "content": "hello there"}]}
    for start in range(0, jobs, 1_000):
        client.rpush(QUEUE, *[json.dumps({"id": job_id, **body}) for job_id in ids[start : start + 1_000]])
    return ids


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def run(server: RedisServer, jobs: int, concurrency: int) -> tuple[float, float, float]:
    """(jobs/s, worker CPU us per job, Redis CPU us per job) of one run."""
    server.flush()
    with server.client() as client:
        ids = push(client, jobs)
        settings = {
            "REDIS_URL": server.url,
            "BACKEND": "echo",
            "WORKER_CONCURRENCY": str(concurrency),
            "HEALTH_PORT": "0",
            "WORKER_ID": "bench",
        }
        command = [sys.executable, "-m", "llmpool_worker"]
        worker = subprocess.Popen(command, env={**os.environ, **settings}, stderr=subprocess.DEVNULL)
        try:
            while client.llen(QUEUE) == jobs:
                time.sleep(0.001)
            process, redis_process = psutil.Process(worker.pid), psutil.Process(server.pid)
            began, worker_cpu, redis_cpu = time.perf_counter(), cpu_s(process), cpu_s(redis_process)
            while client.llen(QUEUE) or client.hlen(CLAIMED):
                time.sleep(0.01)
            took = time.perf_counter() - began
            worker_cpu, redis_cpu = cpu_s(process) - worker_cpu, cpu_s(redis_process) - redis_cpu
        finally:
            worker.terminate()
            worker.wait()
        answered = sum(1 for raw in client.mget([f"{{{QUEUE}}}:result:{job_id}" for job_id in ids]) if raw)
    if answered != jobs:
        sys.exit(f"{jobs - answered} of {jobs} jobs have no result")
    return jobs / took, worker_cpu / jobs * 1e6, redis_cpu / jobs * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    rows = []
    with RedisServer() as server:
        for n in range(args.runs):
            rows.append(run(server, args.jobs, args.concurrency))
            rate, worker_us, redis_us = rows[-1]
            print(f"run {n + 1}: {rate:,.0f} jobs/s, CPU per job: worker {worker_us:.0f} us, redis {redis_us:.0f} us")
    rate, worker_us, redis_us = (statistics.median(column) for column in zip(*rows, strict=True))
    print(
        f"median: {rate:,.0f} jobs/s, CPU per job: worker {worker_us:.0f} us, redis {redis_us:.0f} us "
        f"({args.jobs} jobs, concurrency {args.concurrency}, one worker process)"
    )


if __name__ == "__main__":
    main()
