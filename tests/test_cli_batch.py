"""``llmpool batch``: what a terminal, a script and OpenAI's own readers see of a batch."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from typer.testing import CliRunner
from typer.testing import Result as Outcome

from llmpool_cli.main import app
from llmpool_client.batches.record import job_id_of
from llmpool_contract import JobError, QueueKeys, Result, Status
from tests.support.batch_files import chat_body, chats, line, write
from tests.support.processes import free_port
from tests.support.waiting import until
from tests.support.worker_process import WorkerProcess

CHAT = QueueKeys("llm-chat")


def llmpool(redis_url: str, *args: str | Path) -> Outcome:
    env = {"REDIS_URL": redis_url, "COLUMNS": "200"}
    return CliRunner().invoke(app, ["batch", *map(str, args)], env=env)


def submitted(redis_url: str, file: Path, *args: str) -> str:
    done = llmpool(redis_url, "submit", file, *args)
    assert done.exit_code == 0, done.stderr
    return done.stdout.strip()


def settle(redis: Redis, batch_id: str, custom_id: str, **fields: Any) -> None:
    job_id = job_id_of(batch_id, custom_id)
    result = Result.model_validate({"id": job_id, "status": Status.SUCCEEDED, "content": custom_id} | fields)
    redis.set(CHAT.result(job_id), result.to_json())


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def redis(redis_url: str) -> Any:
    with Redis.from_url(redis_url, decode_responses=True) as redis:
        yield redis


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three requests, the second of which no job can stand for."""
    return write(tmp_path / "b.jsonl", [line("one"), line("two", chat_body(n=2)), line("three")])


def test_with_a_real_worker(redis_url: str, tmp_path: Path) -> None:
    """From a file to result and error files by a real worker: one line each, in the file's order."""
    lines = [line("one", chat_body("hello there")), line("two", chat_body(n=2)), line("three", chat_body("bye"))]
    file = write(tmp_path / "b.jsonl", lines)
    with WorkerProcess(redis_url, BACKEND="echo"):
        batch_id = submitted(redis_url, file)
        waited = llmpool(redis_url, "wait", batch_id, "--timeout", "30", "-o", "json")
    assert waited.exit_code == 1
    facts = json.loads(waited.stdout)
    assert (facts["state"], facts["counts"]["completed"], facts["counts"]["failed"]) == ("completed", 2, 1)

    good, bad = tmp_path / "results.jsonl", tmp_path / "errors.jsonl"
    done = llmpool(redis_url, "results", batch_id, "-o", good, "--errors", bad)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "of 3 requests, 1 refused\n" in done.stderr
    bodies = {each["custom_id"]: each["response"]["body"] for each in lines_of(good)}
    assert list(bodies) == ["one", "three"]
    assert bodies["one"]["choices"][0]["message"]["content"] == "hello there"
    assert bodies["one"]["usage"] == {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}
    [error] = lines_of(bad)
    assert (error["custom_id"], error["response"]) == ("two", None)
    assert error["error"] == {"code": "invalid", "message": "body.n: got 2, allowed is 1"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.jsonl", "errors.jsonl", "results.jsonl"]


def test_submit_says_what_it_did(redis_url: str, redis: Redis, file: Path) -> None:
    """The id alone on stdout; what can't be run and a repeat on stderr; JSON has the whole record."""
    first = llmpool(redis_url, "submit", file)
    assert (first.exit_code, len(first.stdout.splitlines())) == (0, 1)
    assert "1 of 3 requests can't be run" in first.stderr
    again = llmpool(redis_url, "submit", file, "-o", "json")
    assert json.loads(again.stdout)["id"] == first.stdout.strip()
    assert "submitted before" in again.stderr
    assert redis.llen(CHAT.low) == 2


def test_submit_takes_terms(redis_url: str, redis: Redis, tmp_path: Path) -> None:
    """Id, name, queue, priority and deadline are the caller's to choose."""
    args = ("--id", "mine", "--name", "Mine", "-q", "other", "--priority", "high", "--deadline-in", "60", "--keep", "5")
    assert submitted(redis_url, chats(tmp_path / "b.jsonl", 2), *args) == "mine"
    assert redis.llen("{other}:high") == 2
    status = llmpool(redis_url, "status", "mine", "-q", "other")
    shown = dict(text.split(":", 1) for text in status.stdout.splitlines())
    shown = {name: value.strip() for name, value in shown.items()}
    assert (shown["name"], shown["state"], shown["queued"], shown["total"]) == ("Mine", "in_progress", "2", "2")
    record = redis.hgetall("{other}:batch:mine")
    assert int(record["deadline_ms"]) - int(record["created_ms"]) == 60_000
    assert int(record["expires_ms"]) - int(record["deadline_ms"]) == 5_000


def test_check_sends_nothing(redis_url: str, redis: Redis, file: Path, tmp_path: Path) -> None:
    """--check tells each line that can't be run, and touches no Redis."""
    done = llmpool(redis_url, "submit", "--check", file)
    assert (done.exit_code, done.stdout) == (1, "3 requests to /v1/chat/completions, 1 of them can't be run\n")
    assert "line 2, two: body.n: got 2" in done.stderr
    assert llmpool(redis_url, "submit", "--check", chats(tmp_path / "good.jsonl", 2)).exit_code == 0
    many = write(tmp_path / "many.jsonl", [line(f"{n}", {}) for n in range(30)])
    assert "and 10 more" in llmpool(redis_url, "submit", "--check", many).stderr
    assert redis.dbsize() == 0


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["submit", "none.jsonl"], "none.jsonl"),
        (["submit", "bad.jsonl"], "bad.jsonl: line 2: custom_id: the same as in line 1"),
        (["submit", "--check", "bad.jsonl"], "is no batch; nothing was sent"),
        (["submit", "good.jsonl", "--id", "a b"], "batch id"),
        (["submit", "good.jsonl", "--queue", "a b"], "queue name"),
        (["submit", "good.jsonl", "--deadline-in", "0"], "--deadline-in"),
        (["status", "a b"], "batch id"),
        (["wait", "x", "--timeout", "-1"], "--timeout"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage(
    redis_url: str, redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], told: str
) -> None:
    """Wrong input is told in words with exit status 2, and nothing is sent."""
    monkeypatch.chdir(tmp_path)
    chats(Path("good.jsonl"), 1)
    write(Path("bad.jsonl"), [line("a"), line("a")])
    done = llmpool(redis_url, *args)
    assert (done.exit_code, told in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr
    assert redis.dbsize() == 0


def test_another_file_under_a_known_id(redis_url: str, tmp_path: Path) -> None:
    """An id that belongs to another file is refused."""
    submitted(redis_url, chats(tmp_path / "a.jsonl", 1), "--id", "mine")
    done = llmpool(redis_url, "submit", chats(tmp_path / "b.jsonl", 2), "--id", "mine")
    assert (done.exit_code, "another file, a.jsonl" in done.stderr) == (1, True)


@pytest.mark.parametrize("command", ["status", "wait", "cancel", "results"])
def test_unknown_batch(redis_url: str, command: str) -> None:
    """A batch that isn't known is one line and exit status 1."""
    done = llmpool(redis_url, command, "nobody")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "llmpool: batch nobody: not known in llm-chat, llm-generate, llm-embed\n"


def test_redis_out_of_reach(tmp_path: Path) -> None:
    """Which Redis is out of reach, in one line, without its password."""
    url = f"redis://:geheim@127.0.0.1:{free_port()}/0"
    for args in (("list",), ("submit", chats(tmp_path / "b.jsonl", 1))):
        done = llmpool(url, *args)
        assert (done.exit_code, "out of reach" in done.stderr, "geheim" in done.stderr) == (1, True, False)


def test_list(redis_url: str, tmp_path: Path) -> None:
    """One row per batch that is remembered, oldest first; JSON has the records."""
    assert "no batches in llm-chat" in llmpool(redis_url, "list").stderr
    ids = [submitted(redis_url, chats(tmp_path / f"{n}.jsonl", n)) for n in (1, 2)]
    rows = [row.split() for row in llmpool(redis_url, "list").stdout.splitlines()]
    assert [(row[0], row[1], row[-2:]) for row in rows[1:]] == [
        (ids[0], "1.jsonl", ["1", "1"]),
        (ids[1], "2.jsonl", ["2", "2"]),
    ]
    assert [each["id"] for each in json.loads(llmpool(redis_url, "list", "-o", "json").stdout)] == ids


def test_cancel(redis_url: str, redis: Redis, tmp_path: Path) -> None:
    """Cancel says how many jobs it reached, and fails where every request had ended."""
    batch_id = submitted(redis_url, chats(tmp_path / "b.jsonl", 2))
    assert llmpool(redis_url, "cancel", batch_id).stdout == f"batch {batch_id}: 2 jobs will be cancelled\n"
    for n in range(2):
        settle(redis, batch_id, f"request {n}", status=Status.CANCELLED)
    late = llmpool(redis_url, "cancel", batch_id)
    assert (late.exit_code, "had ended already" in late.stderr) == (1, True)
    assert "state:       cancelled" in llmpool(redis_url, "status", batch_id).stdout
    refused = llmpool(redis_url, "submit", tmp_path / "b.jsonl")
    assert refused.exit_code == 0, "it is whole: there is nothing left to push"


def test_results_into_a_pipe(redis_url: str, redis: Redis, tmp_path: Path) -> None:
    """Results go to stdout as they are; everything succeeded is exit status 0."""
    batch_id = submitted(redis_url, chats(tmp_path / "b.jsonl", 2))
    for n in range(2):
        settle(redis, batch_id, f"request {n}", content="é\x1b[31m\u2028")
    done = llmpool(redis_url, "results", batch_id)
    assert (done.exit_code, done.stderr) == (0, "")
    found = [json.loads(text) for text in done.stdout.rstrip("\n").split("\n")]
    assert [each["response"]["body"]["choices"][0]["message"]["content"] for each in found] == ["é\x1b[31m\u2028"] * 2
    assert llmpool(redis_url, "wait", batch_id, "--timeout", "0").exit_code == 0


def test_nothing_that_is_lost_counts_as_a_success(redis_url: str, redis: Redis, tmp_path: Path) -> None:
    """A result that has lapsed is an error that says so, what hasn't ended is told, and the exit status is 1."""
    batch_id = submitted(redis_url, chats(tmp_path / "b.jsonl", 4))
    settle(redis, batch_id, "request 0")
    settle(redis, batch_id, "request 1", status=Status.FAILED, error=JobError(code="timeout", message="too slow"))
    redis.delete(CHAT.id(job_id_of(batch_id, "request 2")))
    errors = tmp_path / "errors.jsonl"
    done = llmpool(redis_url, "results", batch_id, "--errors", errors)
    assert (done.exit_code, len(done.stdout.splitlines())) == (1, 1)
    assert "of 4 requests, 1 failed, 1 lost" in done.stderr
    assert "1 of 4 requests have not ended" in done.stderr
    assert [(each["custom_id"], each["error"]["code"]) for each in lines_of(errors)] == [
        ("request 1", "timeout"),
        ("request 2", "result_expired"),
    ]
    assert lines_of(errors)[1]["error"]["message"].startswith("lost: result expired")
    assert "1 results have expired" in llmpool(redis_url, "status", batch_id).stderr


def test_files_appear_whole(redis_url: str, redis: Redis, tmp_path: Path) -> None:
    """Where the collection breaks off, an earlier file stays as it was; a folder that isn't there is told."""
    batch_id = submitted(redis_url, chats(tmp_path / "b.jsonl", 2))
    settle(redis, batch_id, "request 0")
    redis.set(CHAT.result(job_id_of(batch_id, "request 1")), '{"id":"x","status":"succeeded","attempts":"many"}')
    output = tmp_path / "out.jsonl"
    output.write_text("earlier\n")
    done = llmpool(redis_url, "results", batch_id, "-o", output)
    assert (done.exit_code, "attempts" in done.stderr) == (1, True)
    assert output.read_text() == "earlier\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.jsonl", "out.jsonl"]
    nowhere = llmpool(redis_url, "results", batch_id, "-o", tmp_path / "none" / "out.jsonl")
    assert (nowhere.exit_code, "No such file" in nowhere.stderr) == (1, True)


def test_ctrl_c_leaves_a_submit_that_goes_on_later(redis_url: str, redis: Redis, tmp_path: Path) -> None:
    """Ctrl-C on a terminal says how far the submit got; the same command does the rest, and nothing twice."""
    file = chats(tmp_path / "b.jsonl", 6_000)
    master, slave = pty.openpty()
    command = [sys.executable, "-c", "from llmpool_cli.main import main; main()", "batch", "submit", str(file)]
    env = os.environ | {"REDIS_URL": redis_url, "COLUMNS": "200"}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=slave, stderr=slave, env=env, start_new_session=True
    ) as process:
        os.close(slave)
        until(lambda: redis.llen(CHAT.low), 30, "the first requests pushed")
        process.send_signal(signal.SIGINT)
        text = _all_of(master)
        assert process.wait(20) == 130, text
    assert "of 6000 requests are submitted; the same command goes on" in text
    assert "Traceback" not in text
    part = redis.llen(CHAT.low)
    assert 0 < part < 6_000
    rest = llmpool(redis_url, "submit", file)
    assert (rest.exit_code, f"went on after request {part}" in rest.stderr) == (0, True)
    assert redis.llen(CHAT.low) == 6_000


def _all_of(master: int) -> str:
    """What a terminal shows until its last writer has gone."""
    text = ""
    while True:
        try:
            piece = os.read(master, 65_536)
        except OSError:  # Linux says EIO where the other end is closed
            piece = b""
        if not piece:
            os.close(master)
            return text
        text += piece.decode("utf-8", "replace")
