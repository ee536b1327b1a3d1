"""The programs that producers copy do what their page says, against a real Redis and a real worker."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tools.markdown import fences

from tests.support.redis_server import RedisServer
from tests.support.worker_process import WorkerProcess
from tests.test_documents import ROOT, section, text_of

PRODUCERS = ROOT / "examples" / "producers"
TIMEOUT_S = 100.0
OLDEST_GO = (1, 26)  # as its go.mod has it
GO_BUILD_S = 280.0
"""The first time Go compiles its own library too: 40 s of a quiet core."""
SHOWN = ["with_client.py", "bare_redis.py", "typescript/producer.ts", "go/main.go", "redis-cli.sh"]


@pytest.fixture
def served(redis_server: RedisServer) -> Iterator[str]:
    """The URL of an empty Redis whose default queues are served by a worker that answers with the question."""
    redis_server.flush()
    with WorkerProcess(redis_server.url, BACKEND="echo"):
        yield redis_server.url


def run(*command: str, folder: Path = ROOT, timeout_s: float = TIMEOUT_S, **env: str) -> str:
    """What a command prints. Fails with all of its output."""
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def needs(*programs: str) -> None:
    """Skip a test for want of a program that only this example needs."""
    if missing := [program for program in programs if shutil.which(program) is None]:
        pytest.skip(f"not on PATH: {', '.join(missing)}")


def port_of(url: str) -> str:
    return str(urlsplit(url).port)


@pytest.mark.parametrize("name", SHOWN)
def test_page_shows_the_programs_that_are_run(name):
    """docs/producers.md shows each program whole, as its file has it."""
    shown = [fence.text for fence in fences(text_of("docs/producers.md"))]
    assert (PRODUCERS / name).read_text(encoding="utf-8") in shown


def test_python_with_the_client(served):
    """It prints an answer, follows a stream to its end, and sees both ends of two more jobs."""
    lines = run(sys.executable, str(PRODUCERS / "with_client.py"), served).splitlines()
    assert lines[0] == "Why is the sky blue?"
    assert lines[1:4] == ["-- an attempt begins: what came before is void", "Sum it up.", "report-7: succeeded"]
    assert lines[4].endswith(" succeeded")
    assert lines[5].endswith((" cancelled", " succeeded"))  # the worker may have been faster than the cancel


def test_python_without_the_client(served):
    """It hears of its result and prints the answer."""
    assert run(sys.executable, str(PRODUCERS / "bare_redis.py"), served) == "Say hello.\n"


def test_a_shell(served):
    """It waits for the result and prints it as JSON."""
    needs("redis-cli")
    result = json.loads(run("sh", str(PRODUCERS / "redis-cli.sh"), port_of(served)))
    assert (result["status"], result["content"]) == ("succeeded", "Say hello.")


def test_typescript(served, tmp_path):
    """Its types hold, it streams one answer and waits for another; its locked packages name no registry."""
    needs("node", "npm")
    folder = shutil.copytree(PRODUCERS / "typescript", tmp_path / "producer")
    run("npm", "ci", "--silent", folder=folder)
    printed = run("npm", "start", "--silent", "--", served, folder=folder)
    assert printed.splitlines() == ["Count to three.", "Say hello."]
    assert '"resolved"' not in (PRODUCERS / "typescript" / "package-lock.json").read_text(encoding="utf-8")


@pytest.mark.timeout(GO_BUILD_S + 60)
def test_go(served, tmp_path):
    """It compiles from its locked modules and prints the answer."""
    needs("go")
    found = re.search(r"go(\d+)\.(\d+)", run("go", "version"))
    if found is None or (int(found[1]), int(found[2])) < OLDEST_GO:
        pytest.skip(f"the example needs Go {'.'.join(map(str, OLDEST_GO))} or later")
    folder = shutil.copytree(PRODUCERS / "go", tmp_path / "producer")
    run("go", "build", "-mod=readonly", "-o", "producer", ".", folder=folder, timeout_s=GO_BUILD_S)
    assert run(str(folder / "producer"), served, folder=folder) == "Say hello.\n"


def test_python_of_the_quickstart(served):
    """The few lines of Python in the quickstart print an answer."""
    (code,) = [fence.text for fence in fences(text_of("docs/quickstart.md")) if fence.language == "python"]
    assert run(sys.executable, "-c", code.replace("redis://localhost:6379/0", served)) == "Why is the sky blue?\n"


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(("docs/quickstart.md", "A first job by hand", 1), id="quickstart"),
        pytest.param(("README.md", "On one machine", 1), id="README"),
    ],
)
def test_commands_of_the_other_terminal(served, shown):
    """The commands that a newcomer types into the second terminal, in their order, print the answer."""
    if "redis-cli" in (script := nth_script(*shown)):
        needs("redis-cli")
    here = script.replace(".venv/bin/", f"{Path(sys.executable).parent}/").replace(
        "redis-cli ", f"redis-cli -p {port_of(served)} "
    )
    printed = run("sh", "-euc", here, REDIS_URL=served)
    assert re.search(r"^Why is the sky blue\?$", printed, re.MULTILINE)


def nth_script(document: str, heading: str, number: int) -> str:
    """A shell block under a heading, counted from 0."""
    return [fence.text for fence in fences(section(document, heading)) if fence.language == "sh"][number]
