"""Workers as processes of this machine: started, restarted, drained idlest first, and never left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest
from redis.asyncio import Redis
from typer.testing import CliRunner

from llmpool_cli.main import app
from llmpool_contract import QueueKeys, WorkerReport, WorkerState
from llmpool_operator.decide.types import Missing, Observation
from llmpool_operator.targets.base import NOT_READ, Sighting, Size
from llmpool_operator.targets.local import LocalTarget, victims
from tests.support.waiting import eventually, until

STAND_IN = """
import json, os, signal, sys, threading
from pathlib import Path

ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set() if os.environ["MANNER"] != "stubborn" else None)
if os.environ["MANNER"] == "fails":
    sys.exit(3)
place = Path(os.environ["PLACE"]) / os.environ["WORKER_ID"]
listens = f'{os.environ["HEALTH_HOST"]}:{os.environ["HEALTH_PORT"]}'
place.write_text(json.dumps({"pid": os.getpid(), "listens": listens, "group": os.getpgid(0)}))
ended.wait()
place.with_suffix(".drained").touch()
"""


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet doesn't."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def told(worker: str, in_flight: int, state: WorkerState = WorkerState.READY) -> WorkerReport:
    return WorkerReport(
        worker=worker, pool="local/p", state=state, at_ms=0, in_flight=in_flight, capacity=5, queues=["q"]
    )


class Bench:
    """A target with stand-in workers, a clock that the test turns, and reports that it writes."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.now = 0.0
        self.notes: list[str] = []
        self.reports: dict[str, WorkerReport] = {}
        (place / "stand_in.py").write_text(STAND_IN)

    def target(self, manner: str = "kind") -> LocalTarget:
        return LocalTarget(
            name="p",
            environment={**os.environ, "PYTHONPATH": str(self.place), "PLACE": str(self.place), "MANNER": manner},
            drain_seconds=60,
            monotonic=lambda: self.now,
            on_turn=lambda turn: None,
            on_note=self.notes.append,
            module="stand_in",
        )

    async def size(self, target: LocalTarget) -> Size:
        """What the target finds on a turn whose sighting has the reports."""
        missing = Missing("not read")
        return await target.size(Sighting(Observation(0, {}), missing, self.reports), 0)

    def running(self) -> dict[str, int]:
        """Worker -> pid, of those that came up and still run."""
        found = {path.name: self.about(path.name)["pid"] for path in self.place.glob("p-*") if not path.suffix}
        return {worker: pid for worker, pid in sorted(found.items()) if alive(pid)}

    def about(self, worker: str) -> dict[str, int]:
        text = (self.place / worker).read_text()
        return json.loads(text) if text else {"pid": 0}

    def drained(self) -> set[str]:
        return {path.stem for path in self.place.glob("*.drained")}

    async def see(self, workers: set[str]) -> None:
        async def probe() -> bool:
            return set(self.running()) == workers

        await eventually(probe, 10, f"workers {sorted(workers)}")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
async def make(bench: Bench) -> AsyncIterator[Callable[..., LocalTarget]]:
    """Makes targets, and ends all their workers after the test."""
    made: list[LocalTarget] = []

    def one(manner: str = "kind") -> LocalTarget:
        made.append(bench.target(manner))
        return made[-1]

    yield one
    hurry = asyncio.Event()
    hurry.set()
    for target in made:
        await target.close(hurry)


@pytest.mark.parametrize(
    ("reports", "silent", "count", "chosen"),
    [
        pytest.param({"a": 3, "b": 0, "c": 1}, "", 1, ["b"], id="idle-first"),
        pytest.param({"a": 3, "b": 0, "c": 1}, "", 2, ["b", "c"], id="then-the-least-loaded"),
        pytest.param({"a": 0, "b": 0, "c": 0}, "", 1, ["c"], id="newest-among-equals"),
        pytest.param({"a": 3, "c": 5}, "b", 2, ["a", "c"], id="unknown-last"),
        pytest.param({"a": 0, "c": 5}, "", 2, ["b", "a"], id="those-that-still-start-before-all"),
        pytest.param({"a": 5}, "b", 2, ["c", "a"], id="all-three"),
        pytest.param({}, "abc", 2, ["c", "b"], id="nothing-known"),
    ],
)
def test_whom_a_scale_in_ends(reports: dict[str, int], silent: str, count: int, chosen: list[str]) -> None:
    """Who never reported has no job yet, then the idlest; one that fell silent is unknown, not idle."""
    known = {worker: told(worker, in_flight) for worker, in_flight in reports.items()}
    assert victims(["a", "b", "c"], known, count, reported={*reports, *silent}) == chosen


async def test_it_starts_as_many_as_asked(bench: Bench, make: Callable[..., LocalTarget]) -> None:
    """Each worker has a name of its own, any free port of this machine alone, and a session that Ctrl-C can't reach."""
    target = make()
    await target.resize(3)
    await target.resize(3)
    await bench.see({"p-1", "p-2", "p-3"})
    assert {bench.about(worker)["listens"] for worker in bench.running()} == {"127.0.0.1:0"}
    assert os.getpgid(0) not in {bench.about(worker)["group"] for worker in bench.running()}
    bench.reports = {"p-1": told("p-1", 0), "p-2": told("p-2", 0, WorkerState.STARTING)}
    size = await bench.size(target)
    assert (size.intended, size.existing, size.ready, size.pods) == (3, 3, 1, NOT_READ)


async def test_without_reports_nobody_knows_who_is_ready(make: Callable[..., LocalTarget]) -> None:
    """A Redis that is away is no worker that isn't ready: what would be counted is Missing."""
    missing = Missing("RedisTimeout at r:6379")
    size = await make().size(Sighting(Observation(0, {}), missing, missing), 0)
    assert size.pods == missing


async def test_a_scale_in_drains_the_idlest(bench: Bench, make: Callable[..., LocalTarget]) -> None:
    """The busy ones stay; the others get SIGTERM, exist until they have ended, and no longer count as intended."""
    target = make()
    await target.resize(3)
    await bench.see({"p-1", "p-2", "p-3"})
    bench.reports = {"p-1": told("p-1", 0), "p-2": told("p-2", 4), "p-3": told("p-3", 1)}
    await bench.size(target)
    await target.resize(1)
    assert (await bench.size(target)).intended == 1
    await bench.see({"p-2"})
    assert bench.drained() == {"p-1", "p-3"}
    assert (await bench.size(target)).existing == 1
    assert bench.notes == []


async def test_a_scale_in_ends_those_that_still_start(bench: Bench, make: Callable[..., LocalTarget]) -> None:
    """A worker that never reported goes before an idle one; one that did, and is silent now, stays."""
    target = make()
    await target.resize(3)
    await bench.see({"p-1", "p-2", "p-3"})
    bench.reports = {"p-1": told("p-1", 2), "p-2": told("p-2", 0)}
    await bench.size(target)
    bench.reports = {"p-2": told("p-2", 0)}
    await bench.size(target)
    await target.resize(2)
    await bench.see({"p-1", "p-2"})
    await target.resize(1)
    await bench.see({"p-1"})


async def test_a_worker_that_dies_is_replaced_after_a_wait(bench: Bench, make: Callable[..., LocalTarget]) -> None:
    """A worker killed from outside is told of, and another takes its place once the wait is over."""
    target = make()
    await target.resize(2)
    await bench.see({"p-1", "p-2"})
    os.kill(bench.running()["p-1"], signal.SIGKILL)
    await bench.see({"p-2"})
    await target.resize(2)
    assert "worker p-1 ended by itself" in bench.notes[0]
    assert "SIGKILL" in bench.notes[0]
    assert (await bench.size(target)).existing == 1
    bench.now = 0.6
    await target.resize(2)
    await bench.see({"p-2", "p-3"})


async def test_workers_that_fail_at_once_are_started_ever_more_rarely(
    bench: Bench, make: Callable[..., LocalTarget]
) -> None:
    """A command that can't work isn't started each turn: the wait doubles up to half a minute."""
    target = make("fails")
    waits = []
    for turn in range(1, 9):
        await target.resize(1)

        async def noticed(turn: int = turn) -> bool:
            await bench.size(target)
            return len(bench.notes) == turn

        await eventually(noticed, 10, "the exit")
        waits.append(float(bench.notes[-1].rsplit(" ", 2)[1]))
        bench.now += waits[-1]
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert "exit code 3" in bench.notes[0]


async def test_a_worker_that_outlives_its_drain_is_killed(bench: Bench, make: Callable[..., LocalTarget]) -> None:
    """SIGKILL comes after the drain and a grace, not before."""
    target = make("stubborn")
    await target.resize(1)
    await bench.see({"p-1"})
    await target.resize(0)
    bench.now = 64.9
    assert (await bench.size(target)).existing == 1
    assert bench.notes == []
    bench.now = 65
    await bench.size(target)
    assert "did not end within its drain (60 s): killed" in bench.notes[0]
    await bench.see(set())


async def test_close_waits_for_the_drain(bench: Bench, make: Callable[..., LocalTarget]) -> None:
    """Closing drains all workers and returns when the last one has ended."""
    target = make()
    await target.resize(2)
    await bench.see({"p-1", "p-2"})
    await target.close(asyncio.Event())
    assert bench.running() == {}
    assert bench.drained() == {"p-1", "p-2"}


async def test_close_in_a_hurry_kills(bench: Bench, make: Callable[..., LocalTarget]) -> None:
    """A second Ctrl-C ends even a worker that doesn't listen."""
    target = make("stubborn")
    await target.resize(2)
    await bench.see({"p-1", "p-2"})
    hurry = asyncio.Event()
    closing = asyncio.create_task(target.close(hurry))
    await asyncio.sleep(0)
    assert len(bench.running()) == 2
    hurry.set()
    await closing
    assert bench.running() == {}


PARENT = """
import asyncio, sys, time
from pathlib import Path
from tests.test_local_target import Bench

bench = Bench(Path(sys.argv[1]))
asyncio.run(bench.target().resize(2))
time.sleep(60)
"""


if sys.platform == "linux":  # elsewhere nobody tells a child of its parent's death

    def test_workers_drain_when_their_parent_is_killed(bench: Bench) -> None:
        """kill -9 of ``llmpool local`` leaves no workers behind: each drains and ends."""
        root = Path(__file__).resolve().parents[1]
        parent = subprocess.Popen([sys.executable, "-c", PARENT, str(bench.place)], cwd=root)
        try:
            until(lambda: len(bench.running()) == 2, 15, "two workers")
        finally:
            parent.kill()
            parent.wait()
        until(lambda: not bench.running(), 10, "no workers")
        assert bench.drained() == {"p-1", "p-2"}


POOL = """
apiVersion: llmpool.dev/v1alpha1
kind: LLMWorkerPool
metadata: {{ name: trial, namespace: local }}
spec:
  queues: [{{ name: llm-chat }}]
  redis: {{ url: "{url}" }}
  worker: {{ timeoutSeconds: 10, drainSeconds: 10 }}
  scaling:
    maxReplicas: 3
    idleSeconds: 2
    metrics: [{{ type: QueueDepth, queueDepth: {{ averageValue: 10 }} }}]
"""


async def test_llmpool_local_from_zero_and_back(redis_url: str, tmp_path: Path) -> None:
    """The command starts real workers for real jobs, goes to zero when idle, tells why, and Ctrl-C ends it cleanly."""
    (tmp_path / "pool.yaml").write_text(POOL.format(url=redis_url))
    with (tmp_path / "out").open("wb") as out:
        running = await local(tmp_path, stdout=out.fileno(), stderr=subprocess.STDOUT)
    try:
        async with Redis.from_url(redis_url) as redis:
            ids = [f"job-{n}" for n in range(30)]
            await redis.rpush("llm-chat", *(chat(job_id) for job_id in ids))
            keys = QueueKeys("llm-chat")
            await eventually(lambda: answered(redis, keys, ids), 30, "an answer to each job")
        await eventually(lambda: says(tmp_path / "out", "IdleToZero"), 15, "the way to zero")
        running.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(running.wait(), 15) == 0
    finally:
        await ended(running)
    lines = (tmp_path / "out").read_text()
    assert "0 -> 3  FromZero: there is work: from 0 to 3 (QueueDepth 30 at 10 a worker asks for 3)" in lines
    assert "all workers have ended" in lines
    assert "ended by itself" not in lines


async def test_a_stop_needs_no_audience(redis_url: str, tmp_path: Path) -> None:
    """With its reader gone (`| head`, a closed terminal) Ctrl-C still drains the workers and ends with status 0."""
    (tmp_path / "pool.yaml").write_text(
        POOL.format(url=redis_url).replace("maxReplicas", "minReplicas: 1\n    maxReplicas")
    )
    running = await local(tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL)
    try:
        assert running.stdout is not None
        assert b"Ctrl-C drains" in await asyncio.wait_for(running.stdout.readline(), 15)
        assert b"0 -> 1" in await asyncio.wait_for(running.stdout.readline(), 15)
        running.stdout._transport.close()  # type: ignore[attr-defined]
        running.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(running.wait(), 15) == 0
    finally:
        await ended(running)


async def test_an_address_that_cannot_work_is_refused(redis_url: str, tmp_path: Path) -> None:
    """An address of another kind ends the command at once, with the option's name and no traceback."""
    (tmp_path / "pool.yaml").write_text(POOL.format(url=redis_url))
    running = await local(tmp_path, "--redis-url", "http://x", stderr=asyncio.subprocess.PIPE)
    _, said = await asyncio.wait_for(running.communicate(), 15)
    assert running.returncode == 2
    assert b"--redis-url" in said
    assert b"Traceback" not in said


async def local(folder: Path, *arguments: str, **where: int) -> asyncio.subprocess.Process:
    """`llmpool local` of the pool in a folder."""
    program = "import typer; from llmpool_cli.local import local; typer.run(local)"
    environment = {name: value for name, value in os.environ.items() if name not in ("REDIS_URL", "OLLAMA_BASE_URL")}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, "-f", str(folder / "pool.yaml"), "--backend", "echo", *arguments,
        env=environment, **where,
    )  # fmt: skip


async def ended(running: asyncio.subprocess.Process) -> None:
    if running.returncode is None:
        running.kill()
        await running.wait()


def chat(job_id: str) -> str:
    return json.dumps({"id": job_id, "type": "chat", "model": "m", "messages": [{"role": "user", "content": "hello"}]})


async def answered(redis: Redis, keys: QueueKeys, ids: list[str]) -> bool:
    return all(await redis.mget([keys.result(job_id) for job_id in ids]))


async def says(path: Path, word: str) -> bool:
    return word in path.read_text()  # noqa: ASYNC240 - a small local file


def test_a_pool_that_only_observes_is_refused() -> None:
    """Its queues have workers already: workers of ours would take their jobs."""
    run = CliRunner().invoke(app, ["local", "-f", "examples/pool-observe.yaml"])
    assert run.exit_code == 2
    assert "spec.mode: got Observe, allowed here is Active" in " ".join(run.output.split())
