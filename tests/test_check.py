"""`llmpool-worker --check`: what each finding comes to, and the whole of it on a real Redis."""

import asyncio
import json
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from llmpool_contract import PoolKeys, QueueKeys
from llmpool_contract.redis_url import parse_redis_url
from llmpool_worker.backends.base import BackendError, Capabilities, ErrorKind, LocalModel, ResidentModel
from llmpool_worker.check import Row, State, as_json, as_text, check_all, failed, wanted_models
from llmpool_worker.check.backend import check_backend
from llmpool_worker.check.judge import ServerReading, judge_server
from llmpool_worker.check.redis import check_redis
from llmpool_worker.check.rights import SAMPLES
from llmpool_worker.settings import Settings
from tests.support.processes import free_port
from tests.support.redis_server import RedisServer

CHAT, POOL = QueueKeys("llm-chat"), PoolKeys("local/default")
FINE = {
    "redis_version": "7.0.15",
    "role": "master",
    "connected_slaves": 1,
    "maxmemory_policy": "noeviction",
    "maxmemory": 0,
    "used_memory": 1_000_000,
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
    "rdb_last_bgsave_status": "ok",
}


def states(rows: list[Row]) -> dict[str, str]:
    return {row.name: row.state.value for row in rows}


def judged(
    info: dict[str, Any] | None, save: str | None = "", trip_s: float = 0.001, skew_s: float | None = 0.0
) -> dict[str, str]:
    rows = judge_server("R", ServerReading(info, save, [trip_s] * 3, skew_s), as_cluster=False)
    return {name.removeprefix("R "): state for name, state in states(rows).items()}


def test_a_server_as_it_should_be() -> None:
    """Nothing to say is nothing to do."""
    assert set(judged(FINE).values()) == {"ok"}


@pytest.mark.parametrize(
    ("change", "name", "state"),
    [
        ({"redis_version": "6.0.16"}, "version", "fail"),
        ({"redis_version": "6.2.0"}, "version", "ok"),
        ({"redis_version": None}, "version", "unknown"),
        ({"role": "slave"}, "role", "fail"),
        ({"role": None}, "role", "unknown"),
        ({"maxmemory_policy": "allkeys-lru"}, "memory", "warn"),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": 2**30}, "memory", "fail"),
        ({"maxmemory": 1_050_000}, "memory", "warn"),
        ({"maxmemory_policy": None}, "memory", "unknown"),
        ({"aof_enabled": 0}, "persistence", "warn"),
        ({"aof_last_write_status": "err"}, "persistence", "fail"),
        ({"aof_enabled": None}, "persistence", "unknown"),
        ({"cluster_enabled": 1}, "mode", "fail"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_a_server_says(change: dict[str, Any], name: str, state: str) -> None:
    """Each word of INFO that matters to a queue has its consequence, and what isn't said is unknown."""
    info = {key: value for key, value in (FINE | change).items() if value is not None}
    assert judged(info)[name] == state


def test_what_a_server_does_not_say() -> None:
    """Without INFO, CONFIG or a clock nothing is taken for all right; slow and skewed are told."""
    assert judged(None) == {
        "latency": "ok",
        "clock": "ok",
        "version": "unknown",
        "role": "unknown",
        "memory": "unknown",
        "persistence": "unknown",
    }
    assert judged(FINE | {"aof_enabled": 0}, save=None)["persistence"] == "unknown"
    assert judged(FINE | {"aof_enabled": 0, "rdb_last_bgsave_status": "err"}, save="60 1")["persistence"] == "fail"
    assert judged(FINE, trip_s=0.05)["latency"] == "warn"
    assert judged(FINE, skew_s=-2.0)["clock"] == "warn"
    assert judged(FINE, skew_s=None)["clock"] == "unknown"


def test_each_command_of_the_scripts_is_tried() -> None:
    """The list of what --check tries has every command that the Lua files call, so none is found missing at work."""
    lua = "".join(path.read_text() for path in files("llmpool_worker.queue").joinpath("lua").iterdir())
    called = set(re.findall(r"redis\.p?call\('(\w+)'", lua))
    assert called - {str(sample[0]) for sample in SAMPLES} == set()


def test_the_documents_name_the_same_commands() -> None:
    """The user that docs/configuration.md makes for a worker has exactly the rights that --check tries."""
    text = (Path(__file__).resolve().parents[1] / "docs" / "configuration.md").read_text(encoding="utf-8")
    (user,) = re.findall(r"ACL SETUSER llmpool-worker (?:.|\n)*?\n```", text)
    assert set(re.findall(r"\+([a-z]+)", user)) == {str(sample[0]).lower() for sample in SAMPLES}


async def rows_of(url: str) -> list[Row]:
    return await check_redis(parse_redis_url(url), [CHAT], POOL)


async def test_a_good_redis(own_redis: RedisServer) -> None:
    """A Redis that keeps what it acknowledged passes in every row, and is left without a trace."""
    rows = await rows_of(own_redis.url)
    assert set(states(rows).values()) == {"ok"}
    with own_redis.client() as client:
        assert client.keys() == []


async def test_a_bad_redis(own_redis: RedisServer) -> None:
    """An eviction policy, no persistence and somebody else's key are found, each with what to do."""
    with own_redis.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", "100mb")
        client.config_set("appendonly", "no")
        client.set(CHAT.dead, "mine")
    rows = await rows_of(own_redis.url)
    found = {name: state for name, state in states(rows).items() if state != "ok"}
    assert found == {"Redis memory": "fail", "Redis persistence": "warn", "queue llm-chat": "fail"}
    assert all(row.advice for row in rows if row.name in found)
    assert failed(rows)


@pytest.mark.parametrize(
    ("rules", "state", "words"),
    [
        ("~* &* +@all -xadd", "fail", "XADD on {llm-chat}:*"),
        ("~llm-chat &* +@all", "fail", "on {llm-chat}:*"),
        ("~* resetchannels +@all", "fail", "PUBLISH on {llm-chat}:*, SUBSCRIBE on {llm-chat}:*"),
        ("~* &* +@all -xadd -acl|dryrun", "fail", "may not XADD"),
        ("~* &* +@all -acl", "unknown", "on the queues' keys and channels isn't told"),
        ("~llm-chat ~{llm-chat}:* &* +@all -acl", "unknown", "whether on keys isn't told"),
        ("~llm-chat ~{llm-chat}:* ~{pool:*}:* &* +@all", "ok", "may do all"),
    ],
    ids=["no-command", "no-keys", "no-channels", "not-on-paper", "not-told", "not-even-tried", "enough"],
)
async def test_rights(own_redis: RedisServer, rules: str, state: str, words: str) -> None:
    """What a user may not do is found on paper where Redis lets it, else by trying; a gap is never taken for a yes."""
    with own_redis.client() as client:
        client.execute_command("ACL SETUSER", "u", "on", ">geheim", "resetkeys", "-@all", *rules.split())
    rows = await rows_of(own_redis.url.replace("//", "//u:geheim@"))
    (row,) = (row for row in rows if row.name == "Redis rights")
    assert (row.state, words in row.found) == (state, True), row
    assert "geheim" not in as_json(rows)
    with own_redis.client() as client:
        assert client.keys("*llmpool-check*") == []


async def test_redis_away() -> None:
    """Out of reach is one row that says where it was looked for, without the password."""
    rows = await rows_of(f"redis://:geheim@127.0.0.1:{free_port()}")
    assert states(rows) == {"Redis": "fail"}
    assert "geheim" not in as_json(rows)


class Played:
    """A backend as far as a check needs one."""

    def __init__(self, answers: dict[str, BaseException | None], *, lists: bool = True) -> None:
        self.capabilities = Capabilities(lists_models=lists, manages_models=lists)
        self.answers, self.closed, self.probed = answers, False, [""]

    async def models(self) -> list[LocalModel]:
        if isinstance(error := self.answers.get("list"), BackendError):
            raise error
        return [LocalModel("a:latest", 5), LocalModel("b:1b", 3), LocalModel("c", 9)]

    async def resident(self) -> list[ResidentModel]:
        return [ResidentModel("c", 2**20, 2**19)] if "c" in self.answers else []

    async def probe(self, model: str) -> None:
        self.probed.append(model)
        if error := self.answers.get(model):
            raise error
        if model == "hangs":
            await asyncio.Event().wait()

    async def aclose(self) -> None:
        self.closed = True


async def asked(backend: Any, *wanted: str, timeout_s: float = 5.0) -> dict[str, str]:
    return states(await check_backend(backend, wanted, timeout_s))


async def test_each_wanted_model_must_be_there_and_answer() -> None:
    """A name without a tag means `latest`; a model that isn't there, fails or hangs fails the check."""
    down = BackendError(ErrorKind.RETRYABLE, "backend_failed", "its runner ended")
    assert await asked(Played({"b:1b": down}), "a", "b:1b", "d") == {
        "model server": "ok",
        "model server version": "unknown",
        "models in memory": "ok",
        "model a": "ok",
        "model b:1b": "fail",
        "model d": "fail",
    }
    hanging = Played({}, lists=False)
    assert (await asked(hanging, "hangs", timeout_s=0.05))["model hangs"] == "fail"


async def test_without_a_list_one_cheap_model_is_tried() -> None:
    """The one in memory, else the smallest; where the server tells of none, that is a gap."""
    assert (await asked(Played({"c": None})))["model c"] == "ok"
    assert (await asked(Played({})))["model b:1b"] == "ok"
    assert (await asked(Played({}, lists=False)))["model"] == "unknown"
    unable = Played({"m": NotImplementedError()}, lists=False)
    assert (await asked(unable, "m"))["model m"] == "unknown"


async def test_a_model_server_that_is_away() -> None:
    """One row, and no model is tried in vain."""
    away = Played({"list": BackendError(ErrorKind.UNAVAILABLE, "backend_unreachable", "can't be reached")})
    assert await asked(away, "a") == {"model server": "fail"}
    assert away.probed == [""]


async def test_the_whole_check(own_redis: RedisServer) -> None:
    """Settings, Redis and model server in one table; misspelt variables are warnings; the backend is closed."""
    backend: Any = Played({})
    rows = await check_all(Settings(redis_url=own_redis.url), backend, {"WORKER_CONCURENCY": "WORKER_CONCURRENCY"})
    assert not failed(rows)
    assert [row.state for row in rows if row.name == "settings"] == [State.OK, State.WARN]
    assert backend.closed


def test_models_from_the_settings() -> None:
    """Those to load and those that are allowed, each once, as they were written."""
    some = Settings(model_preload_list="a, b:1", allowed_models="b:1,a,c")
    assert wanted_models(some) == ["a", "b:1", "c"]
    assert wanted_models(Settings()) == []


def test_the_table() -> None:
    """A row a line, what to do below it, and no word cut: advice is there to be copied. JSON has the same."""
    rows = [Row.ok("a", "fine"), Row.fail("longer", "w " * 60, "set maxmemory-policy noeviction")]
    lines = as_text(rows, 60).splitlines()
    assert lines[0] == "ok       a       fine"
    assert lines[-1].split() == ["->", "set", "maxmemory-policy", "noeviction"]
    assert max(map(len, lines)) <= 60
    assert json.loads(as_json(rows))[1]["advice"] == "set maxmemory-policy noeviction"


@pytest.mark.parametrize("form", ["text", "json"])
def test_settings_that_can_not_be_used(form: str) -> None:
    """The command says so in its own form and exits 1; it asks nobody then."""
    command = [sys.executable, "-m", "llmpool_worker", "--check", "-o", form]
    done = subprocess.run(command, env={"WORKER_CONCURRENCY": "0"}, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (1, "")
    assert "WORKER_CONCURRENCY: got '0'" in done.stdout
    if form == "json":
        assert [row["state"] for row in json.loads(done.stdout)] == ["fail"]
