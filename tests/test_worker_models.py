"""Real workers that share a scripted Ollama: which models are in its memory, and what its users see of that."""

import json
import signal
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from llmpool_contract import BackendKeys, PoolKeys
from tests.support.ollama_process import OllamaProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import until
from tests.support.worker_process import WorkerProcess, chat_job, crew, everywhere, results, wait_for_results

CHAT = "llm-chat"
POOL = PoolKeys("local/default")
SMALL, OTHER, EMBEDS = "gemma3:270m", "qwen3:0.6b", "all-minilm:latest"
MODELS = {SMALL: ("completion",), OTHER: ("completion",), EMBEDS: ("embedding",)}
FAST = {"RETRY_BACKOFF": "20", "OLLAMA_STALL_TIMEOUT": "5000", "WORKER_TIMEOUT": "20000", "WORKER_DRAIN": "20000"}
ONE_AT_A_TIME = {"OLLAMA_MAX_LOADED_MODELS": "1", "MODEL_MAX_WAIT": "5000", "MODEL_QUANTUM": "2000"}


@pytest.fixture
def client(redis_server: RedisServer, redis_url: str) -> Iterator[redis.Redis]:
    with redis_server.client() as client:
        yield client


def env_of(ollama: OllamaProcess, **more: str) -> dict[str, str]:
    return {"OLLAMA_BASE_URL": ollama.url, **FAST, **more}


def mixed(count: int) -> dict[str, str]:
    """Job id -> job, of two models in turn."""
    return {f"j{n}": chat_job(f"j{n}", model=(SMALL, OTHER)[n % 2]) for n in range(count)}


def succeeded(found: dict[str, Any]) -> bool:
    return {answer["status"] for answer in found.values()} == {"succeeded"}


def changes(ollama: OllamaProcess) -> list[tuple[str, str]]:
    """What happened to the server's memory, in order; a load that goes on is a load."""
    return [(change["what"], change["model"]) for change in ollama.seen()["changes"]]


def loading(ollama: OllamaProcess) -> str | None:
    """The model that is being loaded just now."""
    last = next(iter(reversed(ollama.seen()["changes"])), None)
    return last["model"] if last and last["what"] == "load" and last["took_s"] == 0 else None


def leader(client: redis.Redis, ollama: OllamaProcess) -> str | None:
    found: str | None = client.hget(BackendKeys.of(ollama.url).plan, "leader")
    return found


def preloaded(client: redis.Redis, worker_id: str = "w1") -> dict[str, str]:
    """Model of the preload list -> its state, with its error where it has one, as the worker reports it."""
    report = json.loads(client.hget(POOL.workers, worker_id) or "{}")
    return {model["name"]: model.get("error") or model["state"] for model in report.get("models", [])}


def ask(ollama: OllamaProcess, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """What somebody else than a worker asks of the server."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    data = None if body is None else json.dumps(body).encode()
    with opener.open(urllib.request.Request(ollama.url + path, data), timeout=5) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def resident(ollama: OllamaProcess) -> set[str]:
    return {model["name"] for model in ask(ollama, "/api/ps")["models"]}


# -- workers that share a server


def test_three_workers_keep_to_the_servers_slots(client: redis.Redis, redis_url: str, ollama: OllamaProcess) -> None:
    """With OLLAMA_NUM_PARALLEL=2 no more than two requests are ever under way, and all workers have a part in it."""
    ollama.script(tokens=4, delay_s=0.01, num_parallel=2)
    with crew(3, redis_url, **env_of(ollama, OLLAMA_NUM_PARALLEL="2")):
        ids = [f"j{n}" for n in range(90)]
        client.rpush(CHAT, *[chat_job(job_id) for job_id in ids])
        found = wait_for_results(client, CHAT, ids, 30)
    assert succeeded(found)
    assert ollama.seen()["max_concurrent"] == {SMALL: 2}
    assert {answer["worker"] for answer in found.values()} == {"w1", "w2", "w3"}


def test_models_that_do_not_fit_take_turns(client: redis.Redis, redis_url: str, ollama: OllamaProcess) -> None:
    """Three workers, one queue of two models, room for one: each is loaded once or twice, always into free memory."""
    ollama.script(tokens=4, delay_s=0.01, models=MODELS, max_loaded=1, load_s=0.3)
    jobs = mixed(120)
    client.rpush(CHAT, *jobs.values())
    with crew(3, redis_url, **env_of(ollama, **ONE_AT_A_TIME)):
        assert succeeded(wait_for_results(client, CHAT, list(jobs), 30))
    seen = ollama.seen()
    assert seen["swap_races"] == 0
    assert {change["what"] for change in seen["changes"]} == {"load", "unload"}
    assert 2 <= sum(change["what"] == "load" for change in seen["changes"]) <= 4


def test_a_leader_that_dies_in_a_swap(client: redis.Redis, redis_url: str, ollama: OllamaProcess) -> None:
    """Killed while it loads, a leader is followed by another worker; no job is lost, and no swap races with a job."""
    ollama.script(tokens=4, delay_s=0.01, models=MODELS, max_loaded=1, load_s=1.5)
    with crew(3, redis_url, **env_of(ollama, **ONE_AT_A_TIME, WORKER_LEASE="2000")) as workers:
        jobs = mixed(30)
        client.rpush(CHAT, *jobs.values())
        until(lambda: loading(ollama) and "unload" in dict(changes(ollama)), 15, "a load in place of another model")
        first = leader(client, ollama)
        next(worker for worker in workers if worker.worker_id == first).child.kill()
        found = wait_for_results(client, CHAT, list(jobs), 40)
        assert leader(client, ollama) not in (first, None)
    assert succeeded(found)
    assert ollama.seen()["swap_races"] == 0
    assert everywhere(client, CHAT)["claimed"] == 0


def test_workers_of_different_queues_share_one_place(
    client: redis.Redis, redis_url: str, ollama: OllamaProcess
) -> None:
    """With one place for both, neither queue waits until the other is empty."""
    ollama.script(tokens=2, delay_s=0.01, num_parallel=1)
    env = env_of(ollama, OLLAMA_NUM_PARALLEL="1")
    here = WorkerProcess(redis_url, worker_id="w1", WORKER_QUEUES="llm-chat", **env)
    there = WorkerProcess(redis_url, worker_id="w2", WORKER_QUEUES="more-chat=chat", **env)
    ids, queues = [f"j{n}" for n in range(40)], (CHAT, "more-chat")
    with here, there:
        for queue in queues:
            client.rpush(queue, *[chat_job(job_id, queue) for job_id in ids])
        assert all(succeeded(wait_for_results(client, queue, ids, 30)) for queue in queues)
    seen = ollama.seen()
    assert seen["max_concurrent"] == {SMALL: 1}
    order = [call["body"]["messages"][0]["content"] for call in seen["calls"]]
    assert min(order[: len(ids)].count(queue) for queue in queues) > 10


def test_a_stop_while_a_model_loads(client: redis.Redis, redis_url: str, ollama: OllamaProcess) -> None:
    """A leader that is stopped in the middle of a load ends at once, and the next worker takes up what it began."""
    ollama.script(tokens=4, models=MODELS, load_s=3.0)
    with WorkerProcess(redis_url, worker_id="w1", **env_of(ollama)) as worker:
        client.rpush(CHAT, chat_job("a"))
        until(lambda: loading(ollama), 10, "a load")
        worker.signal(signal.SIGTERM)
        assert worker.ended(2.5) == 0
        assert leader(client, ollama) is None
    with WorkerProcess(redis_url, worker_id="w2", **env_of(ollama)):
        assert wait_for_results(client, CHAT, ["a"], 15)["a"]["worker"] == "w2"
    assert everywhere(client, CHAT) == {"ready": 0, "claimed": 0, "lease": 0, "delayed": 0, "dead": 0}


# -- preloading


def test_a_preload_list_is_loaded_and_changes_without_a_restart(
    client: redis.Redis, redis_url: str, ollama: OllamaProcess
) -> None:
    """The list's models, one for embeddings among them, are loaded before any job; the pool's list comes in its place
    while the worker runs, and the report says how far it is."""
    ollama.script(models=MODELS, load_s=0.1)
    with WorkerProcess(redis_url, **env_of(ollama, MODEL_PRELOAD_LIST=f"{SMALL},all-minilm")) as worker:
        until(lambda: preloaded(client) == {SMALL: "ready", EMBEDS: "ready"}, 10, "two models that are ready")
        assert resident(ollama) == {SMALL, EMBEDS}
        client.hset(POOL.config, "preload", f"{OTHER},{SMALL}")
        until(lambda: preloaded(client) == {OTHER: "ready", SMALL: "ready"}, 10, "the pool's list")
        assert OTHER in resident(ollama)
        assert {m["name"] for m in worker.health()["models"]["preload"]} == {OTHER, SMALL}
        report = json.loads(client.hget(POOL.workers, "w1"))
        assert set(report["resident_models"]) == resident(ollama)
    assert ollama.seen()["count"] == {}


def test_a_preload_list_that_can_not_be_had_says_so(client: redis.Redis, redis_url: str, ollama: OllamaProcess) -> None:
    """What doesn't fit, and what the server lacks, fails by name; the others are loaded, and jobs are answered."""
    ollama.script(models=MODELS, max_loaded=1)
    env = env_of(ollama, OLLAMA_MAX_LOADED_MODELS="1", MODEL_PRELOAD_LIST=f"nobody:1b,{SMALL},{OTHER}")
    with WorkerProcess(redis_url, **env):
        wanted = {
            "nobody:1b": "model_not_found: the model server has no such model",
            SMALL: "ready",
            OTHER: "no_room: it doesn't fit beside the others of the list",
        }
        until(lambda: preloaded(client) == wanted, 10, "a word on each model")
        client.rpush(CHAT, chat_job("a"))
        assert succeeded(wait_for_results(client, CHAT, ["a"], 10))
    assert changes(ollama) == [("load", SMALL)]


def test_a_model_is_pulled_from_an_allowed_registry_only(
    client: redis.Redis, redis_url: str, ollama: OllamaProcess
) -> None:
    """With MODEL_PULL a model that the server lacks is fetched and answers; from a host that isn't allowed never."""
    foreign = "example.com/library/model:1b"
    kinds = ("completion",)
    ollama.script(models={SMALL: kinds}, pullable={OTHER: kinds, foreign: kinds}, pull_s=0.2)
    with WorkerProcess(redis_url, **env_of(ollama, MODEL_PULL="true")):
        client.rpush(CHAT, chat_job("a", model=OTHER), chat_job("f", model=foreign))
        found = wait_for_results(client, CHAT, ["a", "f"], 15)
    assert (found["a"]["status"], found["a"]["model_used"]) == ("succeeded", OTHER)
    assert (found["f"]["status"], found["f"]["error"]["code"]) == ("failed", "model_not_found")
    assert {model["name"] for model in ask(ollama, "/api/tags")["models"]} == {SMALL, OTHER}


# -- leaving


def test_idle_models_leave_but_for_the_preloaded_and_those_of_others(
    client: redis.Redis, redis_url: str, ollama: OllamaProcess
) -> None:
    """After MODEL_IDLE_TIMEOUT a model that a worker loaded goes; the preload list's and somebody else's stay."""
    ollama.script(models=MODELS)
    ask(ollama, "/api/embed", {"model": EMBEDS, "input": []})
    with WorkerProcess(redis_url, **env_of(ollama, MODEL_IDLE_TIMEOUT="700", MODEL_PRELOAD_LIST=SMALL)):
        client.rpush(CHAT, chat_job("a", model=OTHER), chat_job("b"))
        assert succeeded(wait_for_results(client, CHAT, ["a", "b"], 10))
        until(lambda: ("unload", OTHER) in changes(ollama), 10, "the idle model's end")
        # A second one goes too: by then the others have been idle for longer.
        client.rpush(CHAT, chat_job("c", model=OTHER))
        assert succeeded(wait_for_results(client, CHAT, ["c"], 10))
        until(lambda: changes(ollama).count(("unload", OTHER)) == 2, 10, "its end again")
    assert resident(ollama) == {SMALL, EMBEDS}


def test_a_model_of_others_makes_no_room_by_our_word(
    client: redis.Redis, redis_url: str, ollama: OllamaProcess
) -> None:
    """Where somebody else's model is in the way the server decides; the worker never asks for its unloading."""
    ollama.script(models=MODELS, max_loaded=1)
    ask(ollama, "/api/generate", {"model": OTHER, "prompt": ""})
    with WorkerProcess(redis_url, **env_of(ollama, **ONE_AT_A_TIME)):
        client.rpush(CHAT, chat_job("a"))
        assert succeeded(wait_for_results(client, CHAT, ["a"], 10))
    assert sorted(changes(ollama)) == [("evict", OTHER), ("load", SMALL), ("load", OTHER)]


# -- what a model is run with, and in whose place


def test_runner_options_are_sent_with_every_request(client: redis.Redis, redis_url: str, ollama: OllamaProcess) -> None:
    """MODEL_SETTINGS' options go with the load and each request, so nothing makes the server load the model anew."""
    ollama.script(models=MODELS)
    settings = json.dumps({SMALL: {"options": {"num_ctx": 2048}, "max_in_flight": 1}})
    with WorkerProcess(redis_url, **env_of(ollama, MODEL_SETTINGS=settings)):
        client.rpush(CHAT, chat_job("a"), chat_job("b", options={"temperature": 0.5}), chat_job("c", model=OTHER))
        assert succeeded(wait_for_results(client, CHAT, ["a", "b", "c"], 10))
    seen = ollama.seen()
    contexts = [(call["model"], call["body"]["options"].get("num_ctx")) for call in seen["calls"]]
    assert sorted(contexts, key=str) == [(SMALL, 2048), (SMALL, 2048), (OTHER, None)]
    assert sorted(changes(ollama)) == [("load", SMALL), ("load", OTHER)]
    assert seen["max_concurrent"][SMALL] == 1


def test_a_model_that_can_not_be_loaded_ends_its_jobs(
    client: redis.Redis, redis_url: str, ollama: OllamaProcess
) -> None:
    """Its jobs fail for that reason, not by waiting; jobs of other models go on."""
    ollama.script(models=MODELS, load_fails=(SMALL,))
    with WorkerProcess(redis_url, **env_of(ollama, OLLAMA_MAX_RETRIES="0")):
        client.rpush(CHAT, chat_job("a"), chat_job("b", model=OTHER))
        found = wait_for_results(client, CHAT, ["a", "b"], 15)
    assert (found["a"]["status"], found["a"]["error"]["code"]) == ("failed", "load_failed")
    assert found["b"]["status"] == "succeeded"
    [(_, letter)] = client.xrange("{llm-chat}:dead")
    assert (letter["id"], letter["code"]) == ("a", "load_failed")
    assert ollama.seen()["count"] == {OTHER: 1}


def test_fallbacks_answer_for_a_model_that_can_not_be_had(
    client: redis.Redis, redis_url: str, ollama: OllamaProcess
) -> None:
    """The job's own fallbacks, else the pool's, are loaded and asked; the result names the model that answered."""
    ollama.script(models=MODELS, load_fails=(SMALL,))
    with WorkerProcess(redis_url, **env_of(ollama, MODEL_FALLBACKS=f"{SMALL}={OTHER}", OLLAMA_MAX_RETRIES="0")):
        client.rpush(
            CHAT,
            chat_job("pool"),
            chat_job("own", model="nobody:1b", fallback_models=["no-one:2b", OTHER]),
            chat_job("none", fallback_models=[]),
        )
        found = wait_for_results(client, CHAT, ["pool", "own", "none"], 15)
    for name in ("pool", "own"):
        assert (found[name]["status"], found[name]["model_used"]) == ("succeeded", OTHER)
    assert found["none"]["error"]["code"] == "load_failed"
    assert results(client, CHAT, ["pool"])["pool"]["attempts"] == 1
