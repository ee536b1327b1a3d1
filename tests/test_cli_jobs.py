"""``llmpool submit|result|status|cancel``: what a terminal, a pipe and a script see of a job."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import pytest
from redis import Redis
from typer.testing import CliRunner
from typer.testing import Result as Outcome

from llmpool_cli.main import app
from llmpool_contract import JobError, QueueKeys, Result, Status, parse_job
from tests.support.processes import free_port

CHAT = QueueKeys("llm-chat")
Answer = Callable[[Redis, str], None]


def llmpool(redis_url: str, *args: str, stdin: str = "") -> Outcome:
    return CliRunner().invoke(app, args, input=stdin, env={"REDIS_URL": redis_url, "COLUMNS": "200"})


def settle(redis: Redis, keys: QueueKeys, job_id: str, **fields: Any) -> None:
    result = Result.model_validate({"id": job_id, "status": Status.SUCCEEDED, "attempts": 1} | fields)
    redis.set(keys.result(job_id), result.to_json())
    redis.publish(keys.events, job_id)


@contextmanager
def worker(redis_url: str, queue: str, answer: Answer) -> Iterator[list[bytes]]:
    """Take one job and answer it, as a worker would; the list holds its bytes afterwards."""
    taken: list[bytes] = []

    def work() -> None:
        with Redis.from_url(redis_url) as redis:
            popped = redis.blpop([queue], timeout=20)
            assert popped
            taken.append(popped[1])
            answer(redis, parse_job(popped[1]).id or "")

    thread = threading.Thread(target=work)
    thread.start()
    yield taken
    thread.join()


def answers(content: str, queue: str = "llm-chat", **fields: Any) -> Answer:
    return lambda redis, job_id: settle(redis, QueueKeys(queue), job_id, content=content, **fields)


def test_chat_prints_the_answer_whole_into_a_pipe(redis_url: str) -> None:
    """Into a pipe goes the answer and nothing else; the job has what the options say and asks for no stream."""
    args = ("--system", "be brief", "--option", "temperature=0", "--option", 'stop=["x"]', "--num-predict", "9")
    with worker(redis_url, "{llm-chat}:high", answers("hi\x1b[31m")) as taken:
        done = llmpool(redis_url, "submit", "chat", "-m", "gemma3:270m", *args, "--priority", "high", "hello")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "hi\x1b[31m\n", "")
    job = parse_job(taken[0])
    assert [(m.role, m.content) for m in job.messages or ()] == [("system", "be brief"), ("user", "hello")]
    assert job.options is not None
    assert job.options.model_dump(exclude_none=True) == {"temperature": 0, "stop": ["x"], "num_predict": 9}
    assert job.stream is False


def test_generate_reads_stdin(redis_url: str) -> None:
    """Without a text, or with '-', stdin is the prompt; -o json prints the result as one line of JSON."""
    with worker(redis_url, "llm-generate", answers("out", "llm-generate")) as taken:
        done = llmpool(redis_url, "submit", "generate", "-m", "m", "--system", "s", "-o", "json", stdin="from stdin\n")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["content"] == "out"
    job = parse_job(taken[0])
    assert (job.prompt, job.system) == ("from stdin\n", "s")


def test_embed_prints_a_line_per_text(redis_url: str) -> None:
    """Embeddings come as one JSON array per line, in the texts' order."""
    vectors = [[1.0, 0.5], [0.0, -1.0]]
    with worker(redis_url, "llm-embed", lambda r, i: settle(r, QueueKeys("llm-embed"), i, embeddings=vectors)) as taken:
        done = llmpool(redis_url, "submit", "embed", "-m", "m", "one", "two")
    assert [json.loads(line) for line in done.stdout.splitlines()] == vectors
    assert parse_job(taken[0]).input == ["one", "two"]


def test_streamed_text_is_not_printed_twice(redis_url: str) -> None:
    """With --stream pieces come as they are written; a new attempt voids what was shown, and the end adds nothing."""

    def answer(redis: Redis, job_id: str) -> None:
        for entry in (
            {"kind": "text", "text": "wro", "attempt": "1"},
            {"kind": "reset", "attempt": "2"},
            {"kind": "text", "text": "rig", "attempt": "2"},
            {"kind": "text", "text": "ht", "attempt": "2"},
            {"kind": "end", "status": "succeeded", "attempt": "2"},
        ):
            redis.xadd(CHAT.stream(job_id), entry)
        settle(redis, CHAT, job_id, content="right")

    with worker(redis_url, "llm-chat", answer) as taken:
        done = llmpool(redis_url, "submit", "chat", "-m", "m", "--stream", "hello")
    assert (done.exit_code, done.stdout) == (0, "wro\nright\n")
    assert "attempt 2 begins" in done.stderr
    assert parse_job(taken[0]).stream is True


def test_incomplete_stream_is_made_whole(redis_url: str) -> None:
    """Where the stream lost text, the whole answer follows."""

    def answer(redis: Redis, job_id: str) -> None:
        redis.xadd(CHAT.stream(job_id), {"kind": "text", "text": "half", "attempt": "1"})
        settle(redis, CHAT, job_id, content="half and half")

    with worker(redis_url, "llm-chat", answer):
        done = llmpool(redis_url, "submit", "chat", "-m", "m", "--stream", "hello")
    assert done.stdout == "half\nhalf and half\n"


@pytest.mark.parametrize("status", ["failed", "expired", "cancelled"])
def test_other_ends_are_exit_status_1(redis_url: str, status: str) -> None:
    """A job that didn't succeed prints nothing on stdout, why on stderr, and exits 1."""
    error = JobError(code="model_not_found", message="no model m\x1b]0;x\x07")
    end = answers("", status=Status(status), error=error)
    with worker(redis_url, "llm-chat", end):
        done = llmpool(redis_url, "submit", "chat", "-m", "m", "hello")
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"{status}: model_not_found: no model m]0;x" in done.stderr


def test_no_wait_prints_the_id(redis_url: str) -> None:
    """--no-wait leaves the job queued and prints its id; a repeat says that it is not a new one."""
    args = ("submit", "chat", "-m", "m", "hello", "--no-wait", "--id", "mine")
    assert llmpool(redis_url, *args).stdout == "mine\n"
    again = llmpool(redis_url, *args, "-o", "json")
    assert json.loads(again.stdout) == {"id": "mine", "queue": "llm-chat", "duplicate": True}
    assert "submitted before" in again.stderr
    assert llmpool(redis_url, "status", "mine").stdout == "queued\n"


def test_deadline_is_by_redis_clock(redis_url: str) -> None:
    """--deadline-in becomes Unix ms by Redis' own clock."""
    llmpool(redis_url, "submit", "chat", "-m", "m", "hello", "--no-wait", "--deadline-in", "60")
    with Redis.from_url(redis_url) as redis:
        seconds, _ = redis.time()
        deadline = parse_job(redis.lindex("llm-chat", 0) or b"").deadline or 0
    assert 50_000 < deadline - seconds * 1_000 <= 61_000


def test_timeout_says_how_to_go_on(redis_url: str) -> None:
    """--timeout ends the wait with status 1 and the commands that go on with the job."""
    done = llmpool(redis_url, "submit", "chat", "-m", "m", "hello", "--id", "mine", "--timeout", "0.1")
    assert done.exit_code == 1
    assert "no result after 0.1 s, it is queued: llmpool result|cancel mine" in done.stderr
    waited = llmpool(redis_url, "result", "mine", "--timeout", "0")
    assert (waited.exit_code, waited.stdout) == (1, "")
    assert "it is queued" in waited.stderr


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--option", "temperature"], "wanted NAME=VALUE"),
        (["--option", "temperature=0", "--option", "temperature=1"], "each name once"),
        (["--option", "num_ctx=1"], "options.num_ctx"),
        (["--option", "temperature=99"], "options.temperature"),
        (["--queue", "a b"], "queue name"),
        (["--id", "a b"], "id"),
        (["--priority", "urgent"], "urgent"),
        (["--timeout", "-1"], "--timeout"),
        (["--redis-url", "nonsense"], "give --redis-url"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_exit_status_2(redis_url: str, args: list[str], told: str) -> None:
    """Wrong input is told in words, without a stack trace, and nothing is sent."""
    done = llmpool(redis_url, "submit", "chat", "-m", "m", "hello", *args)
    assert done.exit_code == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    with Redis.from_url(redis_url) as redis:
        assert redis.dbsize() == 0


def test_empty_text_is_wrong_usage(redis_url: str) -> None:
    """An empty stdin is not a prompt."""
    done = llmpool(redis_url, "submit", "generate", "-m", "m", stdin="  \n")
    assert (done.exit_code, "prompt" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    "args", [["submit", "chat", "-m", "m", "x"], ["result", "x"], ["queues"], ["dead", "list"]], ids=lambda a: a[0]
)
def test_redis_out_of_reach_is_one_line(args: list[str]) -> None:
    """Every command says which Redis is out of reach, in one line, at once, with status 1."""
    before = time.monotonic()
    done = llmpool(f"redis://:geheim@127.0.0.1:{free_port()}/0", *args)
    assert time.monotonic() - before < 30  # the client's own retries would take longer
    assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert "out of reach" in done.stderr
    assert "geheim" not in done.stderr


def test_result_status_and_cancel(redis_url: str) -> None:
    """A job is followed by its id alone in the default queues: status, cancel, result, and the same after its end."""
    llmpool(redis_url, "submit", "embed", "-m", "m", "x", "--no-wait", "--id", "mine")
    assert "was queued; it will be cancelled" in llmpool(redis_url, "cancel", "mine").stdout
    with Redis.from_url(redis_url) as redis:
        settle(redis, QueueKeys("llm-embed"), "mine", embeddings=[[1.0]])
    assert llmpool(redis_url, "result", "mine").stdout == "[1.0]\n"
    assert llmpool(redis_url, "status", "mine").stdout == "succeeded\n"
    late = llmpool(redis_url, "cancel", "mine")
    assert (late.exit_code, "ended already: succeeded" in late.stderr) == (1, True)


def test_unknown_job_says_what_to_do(redis_url: str) -> None:
    """An id that no default queue knows: name its queue."""
    for command in ("result", "cancel"):
        done = llmpool(redis_url, command, "nobody")
        assert (done.exit_code, "name its queue" in done.stderr) == (1, True)
    assert llmpool(redis_url, "status", "nobody").exit_code == 1


class Terminal:
    """A real llmpool process on a pseudo-terminal."""

    def __init__(self, redis_url: str, *args: str) -> None:
        self.master, slave = pty.openpty()
        command = [sys.executable, "-c", "from llmpool_cli.main import main; main()", *args]
        environment = os.environ | {"REDIS_URL": redis_url}
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)
        self.text = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)

    def read_until(self, wanted: str) -> None:
        while wanted not in self.text:
            self.text += self._read() or pytest.fail(f"ended without {wanted!r}: {self.text!r}")

    def finish(self) -> int:
        while piece := self._read():
            self.text += piece
        return self.process.wait(20)

    def _read(self) -> str:
        try:
            return os.read(self.master, 65_536).decode("utf-8", "replace")
        except OSError:  # Linux says EIO where the other end is closed
            return ""


def terminal_of(redis_url: str) -> Terminal:
    return Terminal(redis_url, "submit", "chat", "-m", "m", "hello", "--id", "mine")


def test_terminal_shows_text_as_it_comes(redis_url: str) -> None:
    """On a terminal an answer is streamed without being asked for, and can't steer the terminal."""
    with terminal_of(redis_url) as terminal, Redis.from_url(redis_url) as redis:
        assert b'"stream":true' in redis.blpop(["llm-chat"], timeout=20)[1]  # type: ignore[index]
        redis.xadd(CHAT.stream("mine"), {"kind": "text", "text": "Hel\x1b]0;evil\x07", "attempt": "1"})
        terminal.read_until("Hel]0;evil")
        redis.xadd(CHAT.stream("mine"), {"kind": "end", "status": "succeeded", "attempt": "1"})
        settle(redis, CHAT, "mine", content="Hel\x1b]0;evil\x07")
        assert terminal.finish() == 0
    assert terminal.text == "Hel]0;evil\r\n"


def test_ctrl_c_cancels_the_job(redis_url: str) -> None:
    """Ctrl-C leaves a wish to cancel and waits for the job's end, which is then told."""
    with terminal_of(redis_url) as terminal, Redis.from_url(redis_url) as redis, redis.pubsub() as cancels:
        cancels.subscribe(CHAT.cancels)
        redis.xadd(CHAT.stream("mine"), {"kind": "text", "text": "Once", "attempt": "1"})
        terminal.read_until("Once")
        terminal.process.send_signal(signal.SIGINT)
        terminal.read_until("Ctrl-C again")
        assert redis.exists(CHAT.cancel("mine"))
        settle(redis, CHAT, "mine", status=Status.CANCELLED)
        assert terminal.finish() == 1
    assert "job mine cancelled" in terminal.text
    assert "Traceback" not in terminal.text


def test_ctrl_c_leaves_where_no_worker_is(redis_url: str) -> None:
    """A job that nobody takes is waited for a moment only: the wish stays, and the line says so."""
    with terminal_of(redis_url) as terminal, Redis.from_url(redis_url) as redis:
        redis.xadd(CHAT.stream("mine"), {"kind": "text", "text": "Once", "attempt": "1"})
        terminal.read_until("Once")
        terminal.process.send_signal(signal.SIGINT)
        terminal.read_until("the wish stays: the job is queued")
        assert terminal.finish() == 130
        assert redis.exists(CHAT.cancel("mine"))


def test_second_ctrl_c_leaves(redis_url: str) -> None:
    """A second Ctrl-C leaves at once with 130; the wish to cancel stays."""
    with terminal_of(redis_url) as terminal, Redis.from_url(redis_url) as redis:
        redis.xadd(CHAT.stream("mine"), {"kind": "text", "text": "Once", "attempt": "1"})
        terminal.read_until("Once")
        terminal.process.send_signal(signal.SIGINT)
        terminal.read_until("Ctrl-C again")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.finish() == 130
        assert redis.exists(CHAT.cancel("mine"))
    assert "Traceback" not in terminal.text
