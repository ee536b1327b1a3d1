"""The ``llmpool`` command itself: quick help, lazy imports, version, schemas that hold."""

import json
import subprocess
import sys
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from llmpool_cli.main import app
from llmpool_cli.schema import schema_of
from llmpool_contract import BadJob, JobError, Result, Status, Timings, Usage, parse_job

COMMANDS = [
    "demo",
    "local",
    "pools",
    "explain",
    "resume",
    "decide",
    "simulate",
    "import",
    "submit",
    "result",
    "status",
    "why",
    "cancel",
]
COMMANDS += ["queues", "dead", "schema"]
CHAT = {"type": "chat", "model": "m", "messages": [{"role": "user", "content": "x"}]}
FULL = CHAT | {
    "id": "1",
    "options": {"temperature": 0, "seed": 1, "stop": ["a"]},
    "format": {"type": "object"},
    "think": "low",
    "stream": True,
    "deadline": 1,
    "enqueued_at": 1.5,
    "fallback_models": ["n"],
    "metadata": {"any": [None]},
}
JOBS: dict[str, tuple[dict[str, Any], bool]] = {
    "chat": (CHAT, True),
    "full chat": (FULL, True),
    "generate": ({"type": "generate", "model": "m", "prompt": "x", "system": "s"}, True),
    "embed": ({"type": "embed", "model": "m", "input": ["a", "b"]}, True),
    "no type": ({"model": "m"}, False),
    "no messages": ({"type": "chat", "model": "m"}, False),
    "no prompt": ({"type": "generate", "model": "m"}, False),
    "no input": ({"type": "embed", "model": "m"}, False),
    "unknown field": (CHAT | {"colour": 1}, False),
    "runner option": (CHAT | {"options": {"num_ctx": 1}}, False),
    "text as number": (CHAT | {"options": {"temperature": "0"}}, False),
    "bad model": (CHAT | {"model": "a b"}, False),
    "id too long": (CHAT | {"id": "x" * 201}, False),
}


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_help_imports_neither_redis_nor_the_programs() -> None:
    """--help lists every command without importing what they need, so it is quick and works without extras."""
    shown = run(
        "import sys\n"
        "from llmpool_cli.main import main\n"
        "sys.argv = ['llmpool', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'redis', 'kopf', 'kubernetes', 'llmpool_operator', 'llmpool_worker', 'aiohttp'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))\n"
    )
    assert "heavy: []" in shown
    for command in COMMANDS:
        assert f"\n  {command} " in shown


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "demo"])
def test_every_command_has_help(command: str) -> None:
    """Each subcommand can be imported and explains itself."""
    done = CliRunner().invoke(app, [command, "--help"])
    assert (done.exit_code, "Usage: " in done.stdout) == (0, True)


def test_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command whose packages are not installed says which one and how to get it."""
    monkeypatch.setitem(sys.modules, "llmpool_cli.queues", None)
    done = CliRunner().invoke(app, ["queues"])
    assert (done.exit_code, "pip install" in done.stderr, "Traceback" in done.stderr) == (1, True, False)


def test_version() -> None:
    """--version prints the distribution's version."""
    assert CliRunner().invoke(app, ["--version"]).stdout.startswith("llmpool 0.")


def test_unknown_command_is_guessed_at() -> None:
    """A slip of the finger is exit status 2 with a suggestion."""
    done = CliRunner().invoke(app, ["sumbit"])
    assert (done.exit_code, "'submit'" in done.stderr) == (2, True)


@pytest.mark.parametrize("what", ["job", "result"])
def test_schema_is_printed_and_valid(what: str) -> None:
    """`llmpool schema` prints a valid draft 2020-12 schema with its own name."""
    printed = json.loads(CliRunner().invoke(app, ["schema", what]).stdout)
    jsonschema.Draft202012Validator.check_schema(printed)
    assert printed["$schema"].endswith("2020-12/schema")
    assert printed["$id"].endswith(f"/{what}.json")


@pytest.mark.parametrize(("job", "good"), JOBS.values(), ids=JOBS)
def test_schema_and_code_agree(job: dict[str, Any], good: bool) -> None:
    """What the published schema takes, the worker's parser takes, and what one refuses the other refuses."""
    assert jsonschema.Draft202012Validator(schema_of("job")).is_valid(job) is good
    if good:
        parse_job(json.dumps(job).encode())
    else:
        with pytest.raises(BadJob):
            parse_job(json.dumps(job).encode())


@pytest.mark.parametrize(
    "result",
    [
        Result(id="1", status=Status.SUCCEEDED, content="x", usage=Usage(input_tokens=1), timings=Timings(running=0.5)),
        Result(id="2", status=Status.FAILED, error=JobError(code="timeout", message="m"), attempts=3),
        Result(id="3", status=Status.SUCCEEDED, embeddings=[[0.5, 1.0]], metadata={"a": None}),
    ],
    ids=["chat", "failed", "embed"],
)
def test_results_as_written_fit_their_schema(result: Result) -> None:
    """The bytes that a worker writes are valid by the published schema."""
    jsonschema.validate(json.loads(result.to_json()), schema_of("result"))


def test_a_pool_s_spec_needs_no_redis() -> None:
    """Reading a pool's YAML is quick: the library that connects isn't imported for it."""
    code = "import sys, llmpool_contract.pool; print('redis' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_commands_for_jobs_load_no_kubernetes_client() -> None:
    """Their options of a cluster are for `status` without an id alone: nobody else pays for its client at the start."""
    program = "import sys, llmpool_cli.jobs; print([m for m in ('kubernetes', 'llmpool_operator') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
