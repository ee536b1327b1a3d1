"""A real llmpool-worker as a child process, and the small things that tests of it need from Redis."""

import json
import os
import shutil
import signal
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import redis

from tests.support.processes import Child, free_port
from tests.support.waiting import until

START_TIMEOUT_S = 15.0


class WorkerProcess:
    """`with WorkerProcess(redis_url, BACKEND="echo") as worker:` - ready when entered, ended when left."""

    def __init__(self, redis_url: str, *, worker_id: str = "w1", **env: str) -> None:
        self.worker_id = worker_id
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="llmpool-worker-"))
        self._log = ""
        settings = {
            "PATH": os.environ["PATH"],
            "REDIS_URL": redis_url,
            "WORKER_ID": worker_id,
            "HEALTH_PORT": str(self.port),
            "LOG_LEVEL": "debug",
            **env,
        }
        self.child = Child(
            worker_id, [sys.executable, "-m", "llmpool_worker"], self._folder / "worker.log", env=settings
        )
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.child.kill()
        self.remove()

    def remove(self) -> None:
        """Its folder; what it logged can be read on."""
        self._log = self.log
        shutil.rmtree(self._folder)

    def start(self) -> None:
        self.child.start()
        self.wait_ready()

    def wait_ready(self) -> None:
        self.child.wait_until(lambda: self.get("/health/ready")[0] == 200, START_TIMEOUT_S, "readiness")

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.child.pid, number)

    def ended(self, timeout_s: float) -> int | None:
        """Wait for its own end, without a signal; the exit status."""
        until(lambda: not self.child.running(), timeout_s, f"the end of {self.worker_id}")
        return self.child.stop()

    def get(self, path: str) -> tuple[int, str]:
        """(status, body); (0, '') while nothing listens."""
        try:
            with self._opener.open(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def health(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/health")[1])
        return found

    @property
    def log(self) -> str:
        return self.child.log.read_text() if self._folder.exists() else self._log


@contextmanager
def crew(count: int, redis_url: str, **env: str) -> Iterator[list[WorkerProcess]]:
    """Several workers, `w1` and so on, that start at the same time."""
    workers = [WorkerProcess(redis_url, worker_id=f"w{n}", **env) for n in range(1, count + 1)]
    try:
        for worker in workers:
            worker.child.start()
        for worker in workers:
            worker.wait_ready()
        yield workers
    finally:
        for worker in workers:
            worker.child.kill()
            worker.remove()


def chat_job(job_id: str, text: str = "hello there", **fields: Any) -> str:
    """A chat job's JSON as any producer may write it."""
    body = {"type": "chat", "model": "gemma3:270m", "messages": [{"role": "user", "content": text}], **fields}
    return json.dumps({"id": job_id, **body} if job_id else body)


def results(client: redis.Redis, queue: str, job_ids: Sequence[str]) -> dict[str, dict[str, Any] | None]:
    """Each job's result, None where there is none yet."""
    found = client.mget([f"{{{queue}}}:result:{job_id}" for job_id in job_ids])
    return {job_id: None if raw is None else json.loads(raw) for job_id, raw in zip(job_ids, found, strict=True)}


def wait_for_results(client: redis.Redis, queue: str, job_ids: Sequence[str], timeout_s: float) -> dict[str, Any]:
    """All of them, or AssertionError that names some of the missing."""

    def probe() -> dict[str, Any] | None:
        found = results(client, queue, job_ids)
        return found if all(found.values()) else None

    return until(probe, timeout_s, f"results of {len(job_ids)} jobs of {queue}")


def everywhere(client: redis.Redis, queue: str) -> dict[str, int]:
    """How many jobs are in each place that a job can be in."""
    tag = f"{{{queue}}}"
    return {
        "ready": client.llen(queue) + client.llen(f"{tag}:high") + client.llen(f"{tag}:low"),
        "claimed": client.hlen(f"{tag}:claimed"),
        "lease": client.zcard(f"{tag}:lease"),
        "delayed": client.zcard(f"{tag}:delayed"),
        "dead": client.xlen(f"{tag}:dead"),
    }
