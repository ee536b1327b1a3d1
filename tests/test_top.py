"""llmpool top: what it sees, what it says of what it can't see, and its keys."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import DataTable, Input, Static
from typer.testing import CliRunner

from llmpool_cli.main import app
from llmpool_cli.top.frame import Frame, ModelRow, models, pool_row
from llmpool_cli.top.gather import Gatherer, Places
from llmpool_cli.top.screen import Top
from llmpool_cli.top.tables import as_text, summary, tables, to_json
from llmpool_client import PoolWorkers, QueueState
from llmpool_contract import GPUReport, ModelReport, WorkerReport, WorkerState
from tests.support.processes import free_port
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually, until
from tests.support.worker_process import WorkerProcess

AT = 1_000_000.0
HOSTILE = "\x1b[31mred[/] [bold]x"


def report(name: str, **given: Any) -> WorkerReport:
    base = {"worker": name, "pool": "lms/chat", "state": WorkerState.READY, "at_ms": 1, "in_flight": 1, "capacity": 5}
    return WorkerReport(**{**base, "queues": ["llm-chat"], **given})


def queue(name: str, **given: Any) -> QueueState:
    counts = dict.fromkeys(
        ("high", "normal", "low", "due", "delayed", "in_flight", "dead", "dead_bytes", "dead_evicted"), 0
    )
    return QueueState(**{"queue": name, **counts, "dropped_duplicates": 0, "oldest_s": None, **given})


def pool(name: str = "chat", **status: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "lms"}
    return {"metadata": metadata, "spec": {"queues": [{"name": "llm-chat"}]}, "status": status}


def frame(**given: Any) -> Frame:
    workers = (PoolWorkers("lms/chat", (report("w1"), report("w2", in_flight=0)), ("w3",)),)
    whole = {"at": AT, "pools": (pool_row(pool()),), "queues": (queue("llm-chat", normal=7),), "workers": workers}
    return Frame(**{**whole, "missing": (), **given})


def table(shown: Frame, title: str) -> list[dict[str, str]]:
    [found] = [one for one in tables(shown, now=AT) if one.title == title]
    return [dict(zip(found.headers, row, strict=True)) for row in found.rows]


def test_what_is_not_known_is_a_dash() -> None:
    """A pool without a status and a worker without readings show dashes, and no zero that nobody has read."""
    [row] = table(frame(), "Pools")
    assert list(row.values()) == ["lms/chat", "-", "-", "-", "-", "-", "-"]
    [first, _, third] = table(frame(), "Workers")
    assert (first["TOKENS/S"], first["GPU %"], first["IN MEMORY"]) == ("-", "-", "-")
    assert (third["WORKER"], third["STATE"], third["JOBS"]) == ("w3", "silent", "-")
    nothing = summary(frame(queues=None, workers=None), now=AT)
    assert nothing == "workers -  busy -  waiting -  in flight -  dead -  tokens/s -"


def test_a_pools_status_becomes_its_row_and_decision() -> None:
    """Sizes, load and the words of the last decision, with its age."""
    decision = {"at": "1970-01-12T13:46:30Z", "reason": "TooFewReplicas", "message": "2 is the least"}
    conditions = [{"type": "Ready", "status": "True", "reason": "AsDesired"}]
    given = {"replicas": 2, "desiredReplicas": 3, "busy": 1, "queued": 0, "gpu": {"utilization": 40}}
    seen = frame(pools=(pool_row(pool(decision=decision, conditions=conditions, **given)),))
    [row] = table(seen, "Pools")
    assert list(row.values()) == ["lms/chat", "AsDesired", "2", "3", "1", "0", "40"]
    assert table(seen, "Decisions") == [
        {"POOL": "lms/chat", "AGO": "10s", "LAST DECISION": "TooFewReplicas: 2 is the least"}
    ]


def test_a_workers_readings() -> None:
    """Rates, memory and the GPUs' mean, whatever of it is told."""
    gpus = [GPUReport(index=0, name="a", utilization=0.5), GPUReport(index=1, name="b", utilization=None)]
    told = {"gpus": gpus, "tokens_per_second": 12.34, "memory_bytes": 75_000_000, "cpu": 0.5, "resident_models": []}
    seen = frame(workers=(PoolWorkers("lms/chat", (report("w1", **told),), ()),))
    [row] = table(seen, "Workers")
    assert (row["GPU %"], row["TOKENS/S"], row["MB"], row["CPU"], row["IN MEMORY"]) == (
        "50",
        "12.3",
        "75",
        "0.50",
        "none",
    )


def test_models_over_workers() -> None:
    """A model's row counts where it is in memory and where it should be, and keeps an error."""
    there = report("a", resident_models=["m"], models=[ModelReport(name="m", state="ready")])
    failed = report("b", resident_models=[], models=[ModelReport(name="m", state="failed", error="no room")])
    assert models([there, failed, report("c")]) == [ModelRow("m", 1, 1, 2, "no room")]


def test_an_old_frame_says_so() -> None:
    """Numbers that aren't of now are marked as stale, with their age."""
    assert "STALE for 12s" in summary(frame(), now=AT + 12)
    assert "STALE" not in summary(frame(), now=AT + 2)


def test_text_keeps_to_the_width() -> None:
    """No line is longer than the terminal, and each part is there."""
    text = as_text(frame(missing=("pools: " + "x" * 200,)), now=AT, width=80)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert [title for title in ("Pools", "Queues", "Workers", "Models") if title in text.splitlines()] == [
        "Pools",
        "Queues",
        "Workers",
        "Models",
    ]


def test_json_has_null_for_what_is_missing() -> None:
    """Programs get null and the reason, never an empty list that looks like nothing."""
    told = json.loads(json.dumps(to_json(frame(pools=None, missing=("pools: away",)))))
    assert (told["pools"], told["missing"]) == (None, ["pools: away"])
    assert [one["worker"] for one in told["workers"]] == ["w1", "w2"]
    assert told["silentWorkers"] == [{"pool": "lms/chat", "worker": "w3"}]


async def test_a_real_worker_is_seen_without_a_cluster(redis_url: str) -> None:
    """Redis alone tells of workers and queues; of pools it is said why there are none."""
    with WorkerProcess(redis_url, BACKEND="echo", WORKER_POOL="lms/chat"):
        gatherer = Gatherer(Places(None, "no cluster here", None, None, redis_url, ()))
        try:
            seen = await gatherer.look()
        finally:
            await gatherer.close()
    assert seen.pools is None
    assert seen.missing == ("pools: no cluster here",)
    assert [one.worker for one in seen.reports] == ["w1"]
    assert [state.queue for state in seen.queues or ()] == ["llm-chat", "llm-generate", "llm-embed"]


async def test_redis_may_go_and_come_back(own_redis: RedisServer) -> None:
    """The same gatherer sees nothing while Redis is away, says why, and sees again afterwards."""
    gatherer = Gatherer(Places(None, "none", None, None, own_redis.url, ()))
    try:
        assert (await gatherer.look()).queues is not None
        own_redis.kill()
        away = await gatherer.look()
        assert away.queues is None
        assert "out of reach" in away.missing[1]
        own_redis.restart()
        assert await eventually(lambda: _sees(gatherer), 20, "the queues again")
    finally:
        await gatherer.close()


async def _sees(gatherer: Gatherer) -> bool:
    return (await gatherer.look()).queues is not None


@pytest.mark.parametrize("form", ["text", "json"])
def test_once_prints_one_frame(redis_url: str, form: str) -> None:
    """--once and -o json print and end; status 0 while something could be seen."""
    done = CliRunner().invoke(app, ["top", "--once", "-o", form, "--redis-url", redis_url, "--kubeconfig", "/nowhere"])
    assert done.exit_code == 0, done.output
    assert "llm-chat" in done.stdout
    assert "/nowhere" in done.stdout


def test_nothing_at_all_is_an_error() -> None:
    """Neither a cluster nor Redis: status 1, and both reasons."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    done = CliRunner().invoke(app, ["top", "--once", "--redis-url", url, "--kubeconfig", "/nowhere"])
    assert done.exit_code == 1
    assert done.stdout.count("not seen:") == 2


def test_a_pipe_is_told_to_ask_for_one_frame(redis_url: str) -> None:
    """A live screen needs a terminal: wrong usage, with the way out."""
    done = CliRunner().invoke(app, ["top", "--redis-url", redis_url, "--kubeconfig", "/nowhere"])
    assert done.exit_code == 2
    assert "--once" in done.stderr


class Given:
    """A source that gives the same frame and counts how often it was asked."""

    def __init__(self, shown: Frame) -> None:
        self.frame = shown
        self.looks = 0
        self.hangs = False

    async def look(self) -> Frame:
        self.looks += 1
        if self.hangs:
            await asyncio.sleep(3_600)
        return self.frame


async def test_the_screen_and_its_keys() -> None:
    """Tables are filled, a filter narrows them, a sort orders them, a pause stops the looks; names are no markup."""
    names = PoolWorkers("lms/chat", (report("a", in_flight=1), report("b", in_flight=4), report(HOSTILE)), ())
    source = Given(frame(workers=(names,)))
    async with Top(source, every=0.05).run_test(size=(80, 24)) as pilot:
        workers = pilot.app.query_one("#Workers", DataTable)

        def column(number: int) -> list[str]:
            return [str(workers.get_cell_at((n, number))) for n in range(workers.row_count)]

        async def shows(number: int, cells: list[str]) -> None:
            async def probe() -> bool:
                await pilot.pause(0.02)
                return column(number) == cells

            await eventually(probe, 20, f"{cells}")

        await shows(0, ["a", "b", "[31mred[/] [bold]x"])
        assert isinstance(pilot.app.focused, DataTable)
        assert "waiting 7" in str(pilot.app.query_one("#summary", Static).render())
        workers.focus()
        for _ in range(4):
            await pilot.press("s")
        await shows(3, ["4/5", "1/5", "1/5"])

        await pilot.press("slash")
        pilot.app.query_one("#filter", Input).value = "ready"
        await shows(3, ["4/5", "1/5", "1/5"])
        pilot.app.query_one("#filter", Input).value = "red"
        await shows(0, ["[31mred[/] [bold]x"])
        await pilot.press("escape")
        await shows(3, ["4/5", "1/5", "1/5"])
        assert workers.size.height == 4

        await pilot.press("p")
        source.frame = frame(workers=())
        for _ in range(5):
            await pilot.pause(0.05)
        assert workers.row_count == 3
        await pilot.press("p")
        await shows(0, [])


async def test_a_look_that_hangs_makes_the_frame_old() -> None:
    """While Redis or the cluster doesn't answer, keys work, and the last frame says how old it is."""
    source = Given(frame(at=time.time() - 100))
    async with Top(source, every=0.05).run_test(size=(80, 24)) as pilot:

        async def summary_has(words: str) -> bool:
            await pilot.pause(0.02)
            return words in str(pilot.app.query_one("#summary", Static).render())

        await eventually(lambda: summary_has("STALE for 1m40s"), 20, "an old frame")
        source.hangs = True
        await eventually(lambda: summary_has("STALE for 1m42s"), 20, "an older one")
        await pilot.press("q")
    assert pilot.app.return_code == 0


def test_pools_are_found_by_their_workers(redis_url: str, redis_server: RedisServer) -> None:
    """Every pool whose workers report in this Redis is found, and no other key."""
    with redis_server.client() as client:
        client.hset("{pool:lms/a}:workers", "w", "{}")
        client.hset("{pool:lms/b}:config", "x", "1")
        client.set("{pool:x}", "1")
        client.hset("{pool:nopool}:workers", "w", "{}")
    from llmpool_client import SyncClient

    with SyncClient(redis_url) as client:
        assert until(client.pools, 5, "pools") == ["lms/a"]
        assert client.workers("lms/a").stale == ("w",)


def test_the_other_commands_do_not_load_textual() -> None:
    """Textual is only for the live screen: no other command pays for it."""
    root = Path(__file__).resolve().parents[1] / "cli" / "llmpool_cli"
    users = [path.name for path in root.rglob("*.py") if "from textual" in path.read_text()]
    assert users == ["screen.py"]
