"""A worker's start and its size at rest: seconds from exec to a 200 of /health/ready, and resident memory when idle.

    python benchmarks/startup.py [--runs 5]

A private redis-server, BACKEND=ollama with no server behind it (an idle worker asks none). Memory is read ten seconds
after readiness, with three queues and all their connections open.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

# In place of this folder, whose queue.py would hide the standard library's from everything imported below.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import psutil

from tests.support.redis_server import RedisServer
from tests.support.worker_process import WorkerProcess

REST_S = 10.0
POLL_S = 0.005


def run(server: RedisServer) -> tuple[float, float]:
    """(seconds to ready, resident MB at rest) of one worker."""
    worker = WorkerProcess(server.url, LOG_LEVEL="info")
    began = time.monotonic()
    worker.child.start()
    try:
        while worker.get("/health/ready")[0] != 200:
            if not worker.child.running():
                sys.exit(f"the worker ended:\n{worker.log}")
            time.sleep(POLL_S)
        ready = time.monotonic() - began
        time.sleep(REST_S)
        return ready, psutil.Process(worker.child.pid).memory_info().rss / 1e6
    finally:
        worker.child.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    with RedisServer() as server:
        rows = [run(server) for _ in range(parser.parse_args().runs)]
    ready, memory = ([*column] for column in zip(*rows, strict=True))
    print(f"ready after: median {statistics.median(ready):.2f} s, slowest {max(ready):.2f} s ({len(rows)} starts)")
    print(f"resident at rest: median {statistics.median(memory):.0f} MB, largest {max(memory):.0f} MB")


if __name__ == "__main__":
    main()
