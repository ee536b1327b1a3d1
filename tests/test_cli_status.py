"""llmpool status without a job: is all well, and if not, what isn't. And how kubectl and shells find the command."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from llmpool_cli.health import Finding, findings
from llmpool_cli.main import app
from llmpool_cli.top.frame import pool_row
from llmpool_client import PoolWorkers
from llmpool_contract import ModelReport
from tests.support.processes import free_port
from tests.support.worker_process import WorkerProcess
from tests.test_top import frame, pool, queue, report

BIN = Path(sys.executable).parent


def verdicts(**given: Any) -> dict[str, str]:
    return {one.what: one.verdict for one in findings(frame(**given))}


def conditions(status: str) -> dict[str, Any]:
    return {"conditions": [{"type": "Ready", "status": status, "reason": "NoImage"}]}


@pytest.mark.parametrize(
    ("given", "what", "verdict"),
    [
        ({}, "queue llm-chat", "ok"),
        ({"queues": (queue("llm-chat", oldest_s=901.0),)}, "queue llm-chat", "wrong"),
        ({"queues": (queue("other", normal=1),)}, "queue other", "wrong"),
        ({"queues": (queue("other"),)}, "queue other", "ok"),
        ({"queues": None, "missing": ("queues and workers: away",)}, "Redis", "wrong"),
        ({"pools": (pool_row(pool()),)}, "pool lms/chat", "unknown"),
        ({"pools": (pool_row(pool(**conditions("False"))),)}, "pool lms/chat", "wrong"),
        ({"pools": (pool_row(pool(**conditions("True"))),)}, "pool lms/chat", "ok"),
        ({"pools": None, "missing": ("pools: no cluster",)}, "pools", "unknown"),
    ],
    ids=["served", "old", "unserved", "empty", "no Redis", "no status", "not ready", "ready", "no cluster"],
)
def test_what_is_wrong(given: dict[str, Any], what: str, verdict: str) -> None:
    """Jobs that wait with nobody to take them, old jobs, pools that aren't ready and a Redis away are wrong."""
    assert verdicts(**given)[what] == verdict


def test_a_model_that_cannot_be_loaded_is_wrong() -> None:
    """Its error is the finding's words."""
    failed = report("w", models=[ModelReport(name="m", state="failed", error="no room")])
    found = findings(frame(workers=(PoolWorkers("lms/chat", (failed,), ()),)))
    assert Finding("wrong", "model m", "no room") in found


@pytest.mark.parametrize("form", ["text", "json"])
def test_all_is_well(redis_url: str, form: str) -> None:
    """A worker and its queues: status 0."""
    with WorkerProcess(redis_url, BACKEND="echo", WORKER_POOL="lms/chat"):
        done = CliRunner().invoke(app, ["status", "-o", form, "--redis-url", redis_url, "--kubeconfig", "/nowhere"])
    assert done.exit_code == 0, done.output
    assert "1 report" in done.stdout
    assert form == "text" or {one["verdict"] for one in json.loads(done.stdout)} == {"ok", "unknown"}


def test_something_is_wrong() -> None:
    """Redis out of reach: status 1, and it says so."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    done = CliRunner().invoke(app, ["status", "--redis-url", url, "--kubeconfig", "/nowhere"])
    assert (done.exit_code, "out of reach" in done.stdout) == (1, True)


def test_a_jobs_status_is_still_one_word(redis_url: str) -> None:
    """With an id it is what it was: a word, and status 1 for an id that nobody knows."""
    done = CliRunner().invoke(app, ["status", "nobody", "--redis-url", redis_url])
    assert (done.exit_code, done.stdout) == (1, "unknown\n")


@pytest.mark.parametrize(
    ("words", "offered"),
    [("llmpool po", "pools"), ("llmpool top --onc", "--once"), ("llmpool dead pu", "purge")],
    ids=["a command", "an option", "a command of a command"],
)
def test_completion(words: str, offered: str) -> None:
    """bash is offered commands, and the options of commands that aren't loaded yet."""
    count = str(len(words.split()) - 1)
    env = {**os.environ, "_LLMPOOL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": count}
    done = subprocess.run([BIN / "llmpool"], env=env, capture_output=True, text=True, check=False)
    assert offered in done.stdout.split()


def test_kubectl_finds_its_plugin(redis_url: str) -> None:
    """`kubectl llmpool` is the same command, where kubectl is."""
    kubectl = shutil.which("kubectl")
    command = [str(BIN / "kubectl-llmpool"), "--version"] if kubectl is None else [kubectl, "llmpool", "--version"]
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("llmpool "), done.stderr


def test_every_command_is_in_its_document() -> None:
    """docs/cli.md has a row for each command, and none that isn't there."""
    text = (Path(__file__).resolve().parents[1] / "docs" / "cli.md").read_text()
    named = {line.split("`")[1].split()[1] for line in text.splitlines() if line.startswith("| `llmpool ")}
    help_text = CliRunner().invoke(app, ["--help"]).stdout.partition("Commands:")[2]
    assert named == {line.split()[0] for line in help_text.splitlines() if line.strip()}
