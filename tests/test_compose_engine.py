"""The compose files on a real engine: up, jobs through, three workers, one killed, Redis restarted, down."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lab import Lab
from tests.support.processes import free_port
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[1]
COMBINATIONS = {
    "production": ["docker-compose.yml"],
    "development": ["docker-compose.yml", "docker-compose.dev.yml"],
    "gpu": ["docker-compose.yml", "docker-compose.gpu.yml"],
    "gateway": ["docker-compose.yml", "examples/gateway/docker-compose.gateway.yml"],
    "infra": ["infra/docker-compose.yml"],
    "infra development": ["infra/docker-compose.yml", "infra/docker-compose.dev.yml"],
}
pytestmark = [pytest.mark.lab, pytest.mark.timeout(3_600)]
SOON = """
services:
  llm-worker:
    environment: { WORKER_LEASE: "3000", ECHO_TOKEN_DELAY: "100" }
"""


class Stack:
    """One project of the compose files, with ports and names of its own."""

    def __init__(self, models: Path) -> None:
        self.env = {
            "OLLAMA_PORT": str(free_port()),
            "OLLAMA_MODELS_DIR": str(models),
            "MODEL_PRELOAD_LIST": "gemma3:270m",
        }
        self.files: list[str | Path] = ["docker-compose.yml"]

    def __call__(self, *command: str, ok: bool = True) -> str:
        files = [word for file in self.files for word in ("-f", str(file))]
        done = subprocess.run(
            ["docker", "compose", *files, "-p", "llmpool-test", *command],
            cwd=ROOT,
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not ok or done.returncode == 0, done.stdout[-1_000:] + done.stderr[-2_000:]
        return done.stdout.strip()

    def redis(self, *command: str) -> str:
        return self("exec", "-T", "redis-master", "redis-cli", *command)

    def push(self, *ids: str, words: str = "Say hello.") -> None:
        for job in ids:
            body = {"id": job, "type": "chat", "model": "gemma3:270m", "messages": [{"role": "user", "content": words}]}
            self.redis("RPUSH", "llm-chat", json.dumps({**body, "options": {"num_predict": 8}}))

    def answered(self, *ids: str) -> bool:
        told = [self.redis("GET", f"{{llm-chat}}:result:{job}") for job in ids]
        return all(told) and all(json.loads(one)["status"] == "succeeded" for one in told)

    def workers(self) -> list[str]:
        """The ids of the containers that run."""
        return self("ps", "-q", "llm-worker").split()


@pytest.fixture(scope="module")
def engine(lab: Lab) -> Lab:
    lab.docker()
    return lab


@pytest.fixture
def stack(engine: Lab) -> Iterator[Stack]:
    engine.ollama()  # which has the models
    made = Stack(engine.models)
    try:
        yield made
    finally:
        made("kill", ok=False)
        made("down", "--volumes", "--remove-orphans", ok=False)


@pytest.mark.parametrize("files", COMBINATIONS.values(), ids=COMBINATIONS)
def test_each_combination_of_files_is_valid(engine: Lab, files: list[str]) -> None:
    """Compose itself reads every combination that the documents name, without a warning."""
    words = [word for file in files for word in ("-f", file)]
    command = ["docker", "compose", *words, "config", "--quiet"]
    env = {**os.environ, "GATEWAY_KEYS": "lms=key"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_jobs_survive_scaling_kills_and_a_restart_of_redis(stack: Stack, tmp_path: Path) -> None:
    """A real model answers; three workers have ids of their own; of what is queued or running nothing is lost."""
    stack("up", "--build", "--detach")
    assert "gemma3:270m" in stack("exec", "-T", "llm-worker", "curl", "-s", "http://ollama:11434/api/tags")
    stack.push("a", "b")
    until(lambda: stack.answered("a", "b"), 240, "a real model's answers")

    # The rest is about the queue, with short leases and a model that takes a known time.
    (tmp_path / "soon.yml").write_text(SOON)
    stack.files.append(tmp_path / "soon.yml")
    stack.env |= {"BACKEND": "echo", "MODEL_PRELOAD_LIST": ""}
    stack("up", "--detach", "--scale", "llm-worker=3")
    ids = until(lambda: _three(stack.redis("HKEYS", "{pool:local/default}:workers").split()), 60, "three workers")
    assert {one[:12] for one in stack.workers()} <= set(ids)

    jobs = [f"j{n}" for n in range(40)]
    stack.push(*jobs, words=" ".join(["word"] * 20))
    until(lambda: int(stack.redis("HLEN", "{llm-chat}:claimed")), 30, "running jobs")
    subprocess.run(["docker", "kill", stack.workers()[0]], capture_output=True, check=True)
    until(lambda: stack.answered(*jobs), 120, "all answers after a kill")

    more = [f"r{n}" for n in range(12)]
    stack.push(*more, words=" ".join(["word"] * 20))
    stack("restart", "redis-master")
    until(lambda: stack.answered(*more), 120, "all answers after Redis' restart")

    rest = [f"d{n}" for n in range(12)]
    stack.push(*rest, words=" ".join(["word"] * 20))
    stack("down")
    stack("up", "--detach")
    until(lambda: stack.answered(*rest), 120, "all answers after a stop in order and a new start")
    assert stack.answered("a", *jobs)
    assert stack.redis("XLEN", "{llm-chat}:dead") == "0"
    log = stack("exec", "-T", "llm-worker", "sh", "-c", "cat /var/log/llm-worker/*.log")
    assert '"event": "started"' in log


def _three(found: list[str]) -> list[str] | None:
    return found if len(found) >= 3 else None


def test_a_model_that_cannot_be_fetched_is_named(stack: Stack) -> None:
    """`up` ends with an error, and the one-shot service's log says which model it was."""
    stack.env["MODEL_PRELOAD_LIST"] = "no-such-model:1b"
    assert stack("up", "--detach", ok=False) == ""
    assert "could not fetch no-such-model:1b" in stack("logs", "--no-log-prefix", "ollama-pull")
    assert not stack.workers()
