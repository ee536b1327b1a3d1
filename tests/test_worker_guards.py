"""A real worker before a scripted Ollama that fails, is full or is busy with others: breaker, fallbacks, embedding
calls, content rules, retry budget, saturation."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.ollama_process import OllamaProcess
from tests.support.ollama_script import Fault, Rule
from tests.support.redis_server import RedisServer
from tests.support.waiting import until
from tests.support.worker_process import WorkerProcess, chat_job, everywhere, wait_for_results

CHAT, EMBED = "llm-chat", "llm-embed"
SMALL, OTHER, EMBEDS = "gemma3:270m", "qwen3:0.6b", "all-minilm:latest"
MODELS = {SMALL: ("completion",), OTHER: ("completion",), EMBEDS: ("embedding",)}
FAST = {"RETRY_BACKOFF": "20", "OLLAMA_STALL_TIMEOUT": "5000", "WORKER_TIMEOUT": "20000", "WORKER_DRAIN": "20000"}
BREAKS = {"CIRCUIT_BREAKER_THRESHOLD": "3", "CIRCUIT_BREAKER_TIMEOUT": "1500", "RETRY_BUDGET": "1"}


@pytest.fixture
def client(redis_server: RedisServer, redis_url: str) -> Iterator[redis.Redis]:
    with redis_server.client() as client:
        yield client


def env_of(ollama: OllamaProcess, **more: str) -> dict[str, str]:
    return {"OLLAMA_BASE_URL": ollama.url, **FAST, **more}


def embed_job(job_id: str, *texts: str) -> str:
    return json.dumps({"id": job_id, "type": "embed", "model": "all-minilm", "input": list(texts)})


def notes(client: redis.Redis, queue: str, job_ids: list[str]) -> list[dict[str, Any]]:
    """What is told of jobs that wait for another try."""
    found = client.mget([f"{{{queue}}}:ids:{job_id}" for job_id in job_ids])
    return [json.loads(text.split(" ", 2)[2]) for text in found if text and text.count(" ") >= 2]


def state_of(worker: WorkerProcess, model: str) -> str | None:
    found: str | None = worker.health()["breakers"].get(model, {}).get("state")
    return found


# -- breaker


def test_a_failing_model_is_left_alone_and_its_jobs_wait(
    client: redis.Redis, redis_url: str, ollama: OllamaProcess
) -> None:
    """CIRCUIT_BREAKER_THRESHOLD failures open the breaker, which /health and metrics tell; jobs then wait at no cost of
    an attempt, say what for, and are answered when the server is well again."""
    ollama.script(Rule(Fault.ERROR))
    late = [f"late{n}" for n in range(8)]
    with WorkerProcess(redis_url, **env_of(ollama, **BREAKS, OLLAMA_MAX_RETRIES="9")) as worker:
        client.rpush(CHAT, chat_job("first"))
        until(lambda: state_of(worker, SMALL) == "open", 10, "an open breaker")
        asked = ollama.seen()["count"][SMALL]
        assert f'llm_worker_breaker_state{{model="{SMALL}"}}' in worker.get("/metrics")[1]
        client.rpush(CHAT, *[chat_job(job_id) for job_id in late])
        told = until(lambda: len(found := notes(client, CHAT, late)) == len(late) and found, 10, "jobs that wait")
        assert {note["code"] for note in told} == {"breaker_open"}
        assert {(note["attempts"], note["waits_for"]["breaker"]) for note in told} == {(0, SMALL)}
        assert asked == 3
        ollama.script()
        found = wait_for_results(client, CHAT, ["first", *late], 20)
        assert state_of(worker, SMALL) == "closed"
    assert {found[job_id]["attempts"] for job_id in late} == {1}
    assert {answer["status"] for answer in found.values()} == {"succeeded"}


def test_behind_an_open_breaker_the_fallback_answers(
    client: redis.Redis, redis_url: str, ollama: OllamaProcess
) -> None:
    """While a model's breaker is open its jobs go to their fallback at once, as a first attempt."""
    ollama.script(Rule(Fault.ERROR, model=SMALL), models=MODELS)
    env = env_of(ollama, **BREAKS | {"CIRCUIT_BREAKER_TIMEOUT": "60000"}, OLLAMA_MAX_RETRIES="2")
    with WorkerProcess(redis_url, **env) as worker:
        client.rpush(CHAT, chat_job("first"))
        assert wait_for_results(client, CHAT, ["first"], 10)["first"]["status"] == "failed"
        assert state_of(worker, SMALL) == "open"
        ids = [f"j{n}" for n in range(10)]
        client.rpush(CHAT, *[chat_job(job_id, fallback_models=[OTHER]) for job_id in ids])
        found = wait_for_results(client, CHAT, ids, 15)
    told = {(answer["status"], answer["model_used"], answer["attempts"]) for answer in found.values()}
    assert told == {("succeeded", OTHER, 1)}
    assert ollama.seen()["count"] == {SMALL: 3, OTHER: 10}


def test_models_that_are_not_allowed_are_refused(client: redis.Redis, redis_url: str, ollama: OllamaProcess) -> None:
    """ALLOWED_MODELS refuses all others by name, also where they are there; nothing is loaded or asked for them."""
    ollama.script(models=MODELS)
    with WorkerProcess(redis_url, **env_of(ollama, ALLOWED_MODELS=SMALL)):
        client.rpush(CHAT, chat_job("no", model=OTHER), chat_job("yes", fallback_models=[OTHER]))
        found = wait_for_results(client, CHAT, ["no", "yes"], 10)
    assert (found["no"]["status"], found["no"]["error"]["code"]) == ("failed", "invalid")
    assert OTHER in found["no"]["error"]["message"]
    assert found["yes"]["model_used"] == SMALL
    assert [change["model"] for change in ollama.seen()["changes"]] == [SMALL]


# -- embedding


def test_embed_jobs_share_calls(client: redis.Redis, redis_url: str, ollama: OllamaProcess) -> None:
    """At depth a call holds eight inputs or more; each job gets its own vectors, and knows that its usage is shared."""
    ollama.script(embed_call_s=0.02)
    ids = [f"e{n}" for n in range(200)]
    client.rpush(EMBED, *[embed_job(job_id, f"text of {job_id}") for job_id in ids])
    with WorkerProcess(redis_url, **env_of(ollama)):
        found = wait_for_results(client, EMBED, ids, 20)
    calls = [call for call in ollama.seen()["calls"] if call["path"] == "/api/embed"]
    assert sum(len(call["body"]["input"]) for call in calls) == 200
    assert max(len(call["body"]["input"]) for call in calls) <= 10
    assert len(calls) <= 200 / 8
    assert len({json.dumps(answer["embeddings"]) for answer in found.values()}) == 200
    assert sum(bool(answer["usage"].get("shared")) for answer in found.values()) > 100


def test_a_bad_input_fails_alone(client: redis.Redis, redis_url: str, ollama: OllamaProcess) -> None:
    """An input that the server refuses is found among those of its call: its job fails, the others have vectors."""
    ollama.script(embed_call_s=0.01, refuse_text="too long")
    ids = [f"e{n}" for n in range(30)]
    client.rpush(EMBED, *[embed_job(job_id, "too long" if job_id == "e7" else job_id, "x") for job_id in ids])
    with WorkerProcess(redis_url, **env_of(ollama)):
        found = wait_for_results(client, EMBED, ids, 20)
    assert {job_id for job_id, answer in found.items() if answer["status"] != "succeeded"} == {"e7"}
    assert (found["e7"]["error"]["code"], found["e7"]["attempts"]) == ("refused", 1)
    assert [len(found[job_id]["embeddings"]) for job_id in ids if job_id != "e7"] == [2] * 29


def test_a_flood_of_embed_jobs_leaves_room_for_chat(client: redis.Redis, redis_url: str, ollama: OllamaProcess) -> None:
    """A chat job that comes behind hundreds of embed jobs is answered while most of them still wait."""
    ollama.script(embed_call_s=0.1, tokens=3)
    with WorkerProcess(redis_url, **env_of(ollama, MODEL_PRELOAD_LIST=f"{SMALL},{EMBEDS}")) as worker:
        until(lambda: len(worker.health()["models"]["open"]) == 2, 10, "both models")
        client.rpush(EMBED, *[embed_job(f"e{n}", "a", "b", f"text {n}") for n in range(150)])
        until(lambda: ollama.seen()["count"].get(EMBEDS, 0) >= 2, 10, "calls for embeddings")
        client.rpush(CHAT, chat_job("c"))
        assert wait_for_results(client, CHAT, ["c"], 10)["c"]["status"] == "succeeded"
        assert everywhere(client, EMBED)["ready"] > 50


# -- content rules

RULES = """
rules:
  - {id: secrets, action: block, on: input, match: {detector: api_key}}
  - {id: email, action: redact, on: output, match: {detector: email}}
  - {id: card, action: redact, on: input, match: {detector: credit_card}, replace: "[card]"}
"""


def test_content_rules_on_both_sides(
    client: redis.Redis, redis_url: str, ollama: OllamaProcess, tmp_path: Path
) -> None:
    """What is blocked is never asked; what is redacted reaches neither the model nor a stream's reader nor the log."""
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    ollama.script(tokens=4, delay_s=0.01)
    key, mail, card = "ghp_" + "a1B2" * 9, "zanzibar@example.com", "4111 1111 1111 1111"
    with WorkerProcess(redis_url, **env_of(ollama, FILTER_RULES=str(rules))) as worker:
        client.rpush(
            CHAT,
            chat_job("block", f"use {key} please"),
            chat_job("stream", f"write to {mail} now", stream=True),
            chat_job("card", f"pay with {card}"),
        )
        found = wait_for_results(client, CHAT, ["block", "stream", "card"], 10)
        log = worker.log
    assert (found["block"]["status"], found["block"]["error"]["code"]) == ("failed", "filtered")
    pieces = [fields["text"] for _, fields in client.xrange("{llm-chat}:stream:stream") if fields["kind"] == "text"]
    assert "".join(pieces) == found["stream"]["content"] == "write to [email] now "
    asked = {call["body"]["messages"][0]["content"] for call in ollama.seen()["calls"]}
    assert asked == {f"write to {mail} now", "pay with [card]"}
    [(_, letter)] = client.xrange("{llm-chat}:dead")
    assert not any(text in log + letter["reason"] for text in (key, mail, card))


# -- holding back


def test_retries_wait_for_their_share_of_the_work(client: redis.Redis, redis_url: str, ollama: OllamaProcess) -> None:
    """Of ten jobs that fail two are tried again with a RETRY_BUDGET of a fifth; the rest wait, at no further cost."""
    ollama.script(Rule(Fault.ERROR))
    ids = [f"j{n}" for n in range(10)]
    env = env_of(ollama, RETRY_BUDGET="0.2", RETRY_BUDGET_FLOOR="0", ENABLE_CIRCUIT_BREAKER="false")
    with WorkerProcess(redis_url, **env):
        client.rpush(CHAT, *[chat_job(job_id) for job_id in ids])
        until(
            lambda: [note["code"] for note in notes(client, CHAT, ids)] == ["retry_budget"] * 10, 10, "jobs that wait"
        )
        assert ollama.seen()["count"] == {SMALL: 12}
        assert sorted(note["attempts"] for note in notes(client, CHAT, ids)) in ([1] * 8 + [2] * 2, [1] * 9 + [3])
    assert everywhere(client, CHAT)["delayed"] == 10


def test_background_work_yields_to_others_that_wait(client: redis.Redis, redis_url: str, ollama: OllamaProcess) -> None:
    """With SATURATION_WAITING fewer jobs run at once while requests of others wait in the server: down to one."""
    ollama.script(tokens=20, delay_s=0.02, others_waiting=20)
    with WorkerProcess(redis_url, **env_of(ollama, SATURATION_WAITING="5", WORKER_CONCURRENCY="4")) as worker:
        until(lambda: worker.health()["saturation"], 15, "a word on the others")
        assert "wait in the server" in worker.health()["saturation"]
        until(lambda: "llm_worker_saturation_limit 1.0" in worker.get("/metrics")[1], 15, "one job at a time")
        ollama.script(tokens=5, delay_s=0.02, others_waiting=20)
        ids = [f"j{n}" for n in range(6)]
        client.rpush(CHAT, *[chat_job(job_id) for job_id in ids])
        found = wait_for_results(client, CHAT, ids, 15)
    assert {answer["status"] for answer in found.values()} == {"succeeded"}
    assert ollama.seen()["max_concurrent"] == {SMALL: 1}


def test_the_wait_for_a_slot_holds_background_work_back(
    client: redis.Redis, redis_url: str, ollama: OllamaProcess
) -> None:
    """With SATURATION_SLOT_WAIT the server's own word on how long requests waited makes fewer of them run at once."""
    ollama.script(tokens=10, delay_s=0.02, num_parallel=1)
    with WorkerProcess(redis_url, **env_of(ollama, SATURATION_SLOT_WAIT="50", WORKER_CONCURRENCY="4")) as worker:
        ids = [f"j{n}" for n in range(30)]
        client.rpush(CHAT, *[chat_job(job_id) for job_id in ids])
        wait_for_results(client, CHAT, ids, 30)
        assert "waited" in worker.health()["saturation"]
    late = ollama.seen()["calls"][-5:]
    assert all(earlier["ended_at"] <= later["began_at"] + 0.01 for earlier, later in pairwise(late))
