"""``llmpool demo``: what it says is what happened, and nothing of it is left behind."""

import io
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from rich.console import Console

from llmpool_cli.demo.burst import MALFORMED, STREAMED, compose
from llmpool_cli.demo.display import frame
from llmpool_cli.demo.figures import percentile, token_rate
from llmpool_cli.demo.pool import demo_pool, workers_environment
from llmpool_cli.demo.story import News, Story
from llmpool_cli.demo.summary import Summary, failure, summarize
from llmpool_client import DeadLetter, QueueState, Reset, Text
from llmpool_contract import BadJob, Result, Status, WorkerReport, WorkerState, parse_job
from llmpool_contract.result import Timings, Usage
from tests.support.waiting import until

KEYS = [
    "submitted", "succeeded", "expired", "dead", "lost", "replicas_max", "replicas_end", "scale_path",
    "wait_p50_s", "wait_p95_s", "tokens_per_s", "redis", "model",
]  # fmt: skip
NOBODY = "http://127.0.0.1:9"  # the discard port: nothing listens there


# --- figures and verdict


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        pytest.param([], 50, None, id="nothing"),
        pytest.param([3.0], 95, 3.0, id="one"),
        pytest.param([4.0, 1.0, 3.0, 2.0], 50, 2.0, id="nearest-rank"),
        pytest.param([float(n) for n in range(1, 21)], 95, 19.0, id="one-in-twenty-above"),
    ],
)
def test_percentiles_are_values_that_occurred(values: list[float], percent: int, expected: float | None) -> None:
    """Nearest rank, so never a number that no job waited; without values there is none."""
    assert percentile(values, percent) == expected


def answer(job_id: str, queued: float | None = 1.0, tokens: int | None = 10) -> Result:
    return Result(id=job_id, status=Status.SUCCEEDED, timings=Timings(queued=queued), usage=Usage(output_tokens=tokens))


def test_tokens_count_from_the_first_claim() -> None:
    """The time before anybody worked is no part of the rate."""
    assert token_rate([answer("a", queued=2.0), answer("b", queued=5.0)], 1.0, 7.0) == 5.0


@pytest.mark.parametrize(
    "results",
    [
        pytest.param([], id="no-answer"),
        pytest.param([answer("a", tokens=None)], id="nobody-counted"),
        pytest.param([answer("a", queued=None)], id="no-wait-known"),
    ],
)
def test_a_rate_that_was_not_measured_is_none(results: list[Result]) -> None:
    """Missing is never zero."""
    assert token_rate(results, 1.0, 7.0) is None


GOOD = Summary(24, 22, 1, 1, 0, 4, 0, (0, 2, 4, 0), 1.0, 2.0, 30.0, "redis", "model")


def test_a_good_run_has_no_fault() -> None:
    """Nothing lost, one expired, one dead letter, above one worker and back at zero."""
    assert failure(GOOD) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"lost": 1}, "1 of 24 jobs have neither", id="lost"),
        pytest.param({"submitted": 0}, "nothing was submitted", id="nothing-submitted"),
        pytest.param({"replicas_max": 1}, "never grew above 1", id="never-grew"),
        pytest.param({"replicas_end": 2}, "ended with 2 workers", id="not-at-zero"),
        pytest.param({"dead": 3, "succeeded": 20}, "20 of 22 jobs succeeded", id="jobs-failed"),
        pytest.param({"expired": 0, "succeeded": 23}, "0 expired", id="nothing-expired"),
    ],
)
def test_a_bad_run_says_why(change: dict[str, Any], words: str) -> None:
    """Each condition of a good run has its own words."""
    assert words in str(failure(replace(GOOD, **change)))


def test_a_timeout_comes_first() -> None:
    """What a run that was cut short lacks is a consequence."""
    assert str(failure(replace(GOOD, lost=3), timed_out_s=5)).startswith("not done within 5 s (--timeout); 3 of 24")


# --- burst and story


def test_the_burst_is_what_the_demo_promises() -> None:
    """So many jobs, all told: some streamed, ids of their own, and one that no parser takes."""
    burst = compose("q", "m", 24)
    assert burst.size == 24
    assert len(set(burst.ids)) == 23
    assert sum(job["stream"] for job in burst.jobs) == STREAMED
    assert all(parse_job(json.dumps(job).encode()).type == "chat" for job in burst.jobs)
    with pytest.raises(BadJob):
        parse_job(burst.malformed)


def letter(job_id: str = "", body: bytes = MALFORMED) -> DeadLetter:
    return DeadLetter("q", "1-1", "not_json", "r", job_id, body, "normal", 0, 1, 0, "w", len(body))


def test_lost_is_what_has_neither_result_nor_dead_letter() -> None:
    """The malformed job is known by its bytes, all others by their ids; before the burst everything is to come."""
    story = Story(compose("q", "m", 6))
    assert story.lost == 6
    story.submitted_at = 0.0
    story.dead = (letter(),)
    assert story.lost == 5
    for job_id in story.burst.ids[:-1]:
        story.answered(answer(job_id))
    assert (story.lost, story.over) == (1, False)
    story.dead = (letter(), letter(story.burst.ids[-1], b"{}"))
    assert (story.lost, story.over) == (0, True)


def test_a_new_attempt_voids_the_text_before_it() -> None:
    """What is shown of a stream is what the job will be answered with."""
    story = Story(compose("q", "m", 6))
    for event in (Text("no", 1), Reset(2), Text("ye", 2), Text("s", 2)):
        story.streamed("job-1", event)
    assert story.streams == {"job-1": "yes"}


def report(number: int, state: WorkerState = WorkerState.READY) -> WorkerReport:
    return WorkerReport(
        worker=f"demo-x-{number}", pool="local/demo", state=state, at_ms=0, in_flight=1, capacity=2, queues=["q"]
    )


def busy_story() -> Story:
    story = Story(compose("q", "m", 24), now=65.0, submitted_at=1.0, existing=4, path=[0, 2, 3])
    story.queue = QueueState("q", 0, 10, 0, 0, 0, 6, 1, 100, 0, 0, 1.0)
    story.reports = {"a": report(1), "b": report(2, WorkerState.DRAINING)}
    story.news = [News(float(n), "2 -> 4", "TooManyReplicas", "4 instead of 6: " + "why " * 30) for n in range(20)]
    story.streamed("job-1", Text("A long \x1b[31manswer " * 50, 1))
    return story


def test_workers_that_do_not_report_are_starting_or_ending() -> None:
    """Of four processes one reports ready, one draining: three are wanted, so two more are on their way up."""
    story = busy_story()
    assert story.unseen == (2, 0)
    story.path.append(1)
    assert story.unseen == (0, 2)


@pytest.mark.parametrize(("width", "height"), [pytest.param(80, 24, id="80x24"), pytest.param(120, 40, id="120x40")])
@pytest.mark.parametrize("story", [Story(compose("q", "m", 24)), busy_story()], ids=["at-first", "busy"])
def test_the_display_fits_its_terminal(story: Story, width: int, height: int) -> None:
    """The frame always has the same height, below the terminal's, and no control character of an answer."""
    console = Console(file=io.StringIO(), width=width, height=height)
    lines = console.render_lines(frame(story, "title", height), console.options.update(height=None))
    text = "".join(segment.text for line in lines for segment in line)
    assert len(lines) == {24: 23, 40: 26}[height]
    assert "\x1b" not in text


def test_the_summary_of_a_story_that_never_began() -> None:
    """Nothing was submitted, so nothing is lost, and nothing was measured."""
    summary = summarize(Story(compose("q", "m", 24)), "redis", "model")
    assert (summary.submitted, summary.lost, summary.wait_p50_s, summary.tokens_per_s) == (0, 0, None, None)
    assert list(json.loads(summary.to_json())) == KEYS


def test_workers_inherit_no_settings_of_other_workers() -> None:
    """A REDIS_PASSWORD or WORKER_LEASE of the user's own must not reach the demo's workers; all else does."""
    given = {"PATH": "/bin", "REDIS_PASSWORD": "s3cret", "worker_lease": "1", "ECHO_TOKEN_DELAY": "9"}
    assert workers_environment(given) == {"PATH": "/bin"}


@pytest.mark.parametrize("backend", ["ollama", "openai", "echo"])
def test_the_pool_is_a_valid_document(backend: Any) -> None:
    """It starts at zero and may grow above one."""
    scaling = demo_pool("demo-1", "q", backend).spec.scaling
    assert scaling.min_replicas == 0
    assert scaling.max_replicas > 1


# --- the command itself


class Run:
    """``llmpool demo`` as a process whose descendants can be told by a mark in their environment."""

    def __init__(self, place: Path, *options: str, **variables: str) -> None:
        self._mark = f"LLMPOOL_TEST_MARK_{secrets.token_hex(8)}"
        self._out, self._err = place / "out", place / "err"
        self.folder = place / "tmp"
        self.folder.mkdir()
        inherited = {name: value for name, value in os.environ.items() if name not in ("REDIS_URL", "OLLAMA_BASE_URL")}
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from llmpool_cli.main import main; main()", "demo", "--json", *options],
                stdout=out, stderr=err, stdin=subprocess.DEVNULL, start_new_session=True,
                env={**inherited, "TMPDIR": str(self.folder), self._mark: "1", **variables},
            )  # fmt: skip

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def finish(self, seconds: float) -> int:
        return self.process.wait(seconds)

    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        assert list(found) == KEYS
        return found

    def left(self) -> list[psutil.Process]:
        """Processes of this run that are still there."""
        return [process for process in psutil.process_iter() if self._mark in environment_of(process)]


def environment_of(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return {}


@contextmanager
def running(place: Path, *options: str, **variables: str) -> Iterator[Run]:
    run = Run(place, *options, **variables)
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait()


def left_nothing(run: Run) -> None:
    assert run.left() == []
    assert list(run.folder.iterdir()) == []


def test_from_zero_and_back_on_a_given_redis(redis_url: str, tmp_path: Path) -> None:
    """Every job ends as it must, the pool grows and goes, and the user's own keys are all that is left in Redis."""
    with redis.Redis.from_url(redis_url) as client, running(tmp_path, "--backend", "echo", REDIS_URL=redis_url) as run:
        client.rpush("llm-chat", "the user's own job")
        assert run.finish(60) == 0, run.err
        assert client.keys() == [b"llm-chat"]
        assert client.lrange("llm-chat", 0, -1) == [b"the user's own job"]
    summary = run.summary()
    assert {name: summary[name] for name in ("submitted", "succeeded", "expired", "dead", "lost")} == {
        "submitted": 24, "succeeded": 22, "expired": 1, "dead": 1, "lost": 0,
    }  # fmt: skip
    path = summary["scale_path"]
    assert (path[0], path[-1], summary["replicas_end"]) == (0, 0, 0)
    assert max(path) == summary["replicas_max"] > 1
    assert 0 < summary["wait_p50_s"] <= summary["wait_p95_s"]
    assert summary["tokens_per_s"] > 0
    assert summary["redis"].endswith("given by REDIS_URL")
    assert "FromZero: there is work" in run.out
    assert "IdleToZero" in run.out
    left_nothing(run)


def test_on_a_machine_without_redis(tmp_path: Path) -> None:
    """Fakeredis is enough for the whole of it."""
    with running(tmp_path, "--backend", "echo", "--jobs", "8", LLMPOOL_DEMO_REDIS="fakeredis") as run:
        assert run.finish(60) == 0, run.err
    summary = run.summary()
    assert (summary["redis"], summary["succeeded"], summary["lost"]) == ("fakeredis", 6, 0)
    left_nothing(run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_it_in_order(redis_url: str, tmp_path: Path, number: signal.Signals) -> None:
    """Workers at work, and still no process, no folder and no key is left; the status is the shell's for the signal."""
    options = ("--backend", "echo", "--jobs", "200", "--redis-url", redis_url)
    with running(tmp_path, *options) as run:
        until(lambda: "streamed: " in run.out, 30, "a first answer")
        run.process.send_signal(number)
        assert run.finish(20) == 128 + number
    assert "stopped early" in run.err
    assert "Traceback" not in run.err
    with redis.Redis.from_url(redis_url) as client:
        assert client.keys() == []
    left_nothing(run)


def test_a_signal_while_it_begins(tmp_path: Path) -> None:
    """Before there is anything to drain it ends at once, with the Redis that it had started."""
    with running(tmp_path, "--backend", "echo") as run:
        until(lambda: bool(list(run.folder.glob("llmpool-redis-*/*.log"))), 20, "a private Redis")
        run.process.send_signal(signal.SIGTERM)
        assert run.finish(20) == 128 + signal.SIGTERM
    left_nothing(run)


def test_a_timeout_ends_it_with_a_reason(tmp_path: Path) -> None:
    """What is unfinished counts as lost, the JSON is still the last line, and nothing is left."""
    began = time.monotonic()
    with running(tmp_path, "--backend", "echo", "--jobs", "1000", "--timeout", "4") as run:
        assert run.finish(30) == 1
    assert time.monotonic() - began < 20
    assert "not done within 4 s (--timeout)" in run.err
    assert run.summary()["lost"] > 0
    left_nothing(run)


def test_workers_that_die_end_it_early(tmp_path: Path) -> None:
    """It doesn't wait for its timeout where no worker can run, and shows their last words."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import os\nif 'WORKER_ID' in os.environ:\n    os.write(2, b'no such luck\\n')\n    os._exit(3)\n"
    )
    with running(tmp_path, "--backend", "echo", PYTHONPATH=str(site)) as run:
        assert run.finish(40) == 1
    assert "the workers end by themselves" in run.err
    assert "a worker wrote: no such luck" in run.err
    left_nothing(run)


def test_a_redis_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    """Without a Redis nothing begins: status 2, and what to do, without the password."""
    with running(tmp_path, "--backend", "echo", REDIS_URL="redis://:s3cret@127.0.0.1:9/0") as run:
        assert run.finish(20) == 2
    assert len(run.err.splitlines()) == 1
    assert "REDIS_URL (at 127.0.0.1:9) doesn't answer" in run.err
    assert "s3cret" not in run.err + run.out


@pytest.mark.real_model
def test_with_the_packaged_model(tmp_path: Path) -> None:
    """The main job on a real model: llama.cpp answers every job, and is gone with the rest."""
    with running(
        tmp_path, "--jobs", "8", XDG_CACHE_HOME=str(tmp_path / "cache"), LLMPOOL_DEMO_OLLAMA=NOBODY
    ) as run:  # fmt: skip
        assert run.finish(110) == 0, run.err
    summary = run.summary()
    assert (summary["succeeded"], summary["expired"], summary["dead"], summary["lost"]) == (6, 1, 1, 0)
    assert summary["model"].startswith("gemma3:270m by llama.cpp")
    assert summary["tokens_per_s"] > 0
    left_nothing(run)
