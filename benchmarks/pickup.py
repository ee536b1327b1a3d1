"""From RPUSH to the request on an idle worker: how long until the model server hears of a job.

    python benchmarks/pickup.py [--jobs 300]

A private redis-server, one idle worker (BACKEND=ollama) and a bare socket server in this process that notes when a
request's first bytes arrive. Jobs come one at a time, each after the one before is answered, so every one of them finds
the worker idle. Both ends are read from this process' monotonic clock.
"""

import argparse
import asyncio
import json
import re
import sys
import time
from pathlib import Path

# In place of this folder, whose queue.py would hide the standard library's from everything imported below.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from redis.asyncio import Redis

from tests.support.redis_server import RedisServer
from tests.support.worker_process import WorkerProcess

LINE = b'{"message":{"role":"assistant","content":"ok"},"done":true,"done_reason":"stop"}\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n%s"
ANSWER = HEAD % (len(LINE), LINE)
MODELS = b'{"models":[{"name":"m:latest","size":1,"digest":"d"}]}'
RESIDENT = HEAD % (len(MODELS), MODELS)
LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class Server(asyncio.Protocol):
    """Holds one model, which answers at once; notes when a job's request began."""

    heard: asyncio.Future[float]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._data = transport, b""

    def data_received(self, data: bytes) -> None:
        if not self._data and data.startswith(b"POST /api/chat"):
            Server.heard.set_result(time.monotonic())
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        found = LENGTH.search(head)
        if end and len(body) >= (int(found[1]) if found else 0):
            self._data = b""
            self._transport.write(ANSWER if head.startswith(b"POST") else RESIDENT)


async def measure(redis: Redis, jobs: int) -> list[float]:
    """Seconds for each job."""
    taken = []
    async with redis.pubsub(ignore_subscribe_messages=True) as events:
        await events.subscribe("{llm-chat}:events")
        await events.get_message(timeout=1)
        for n in range(jobs):
            body = {"id": f"{jobs}-{n}", "type": "chat", "model": "m", "messages": [{"role": "user", "content": "hi"}]}
            Server.heard = asyncio.get_running_loop().create_future()
            began = time.monotonic()
            await redis.rpush("llm-chat", json.dumps(body))
            taken.append(await asyncio.wait_for(Server.heard, 10) - began)
            while await events.get_message(timeout=5) is None:
                pass
            await asyncio.sleep(0.005)  # the worker goes back to waiting: what is measured is an idle one
    return taken


async def run(jobs: int) -> None:
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(Server, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    with RedisServer() as server:
        worker = WorkerProcess(server.url, OLLAMA_BASE_URL=f"http://127.0.0.1:{port}", LOG_LEVEL="info")
        await asyncio.to_thread(worker.start)
        try:
            async with Redis.from_url(server.url) as redis:
                await measure(redis, 20)  # connections, caches
                taken = sorted(await measure(redis, jobs))
        finally:
            worker.child.stop()
    listener.close()
    p50, p99 = taken[len(taken) // 2], taken[int(len(taken) * 0.99)]
    print(f"RPUSH to request on an idle worker, {jobs} jobs: p50 {p50 * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=300)
    asyncio.run(run(parser.parse_args().jobs))


if __name__ == "__main__":
    main()
