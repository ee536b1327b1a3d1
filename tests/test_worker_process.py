"""A real worker process between a real Redis and a scripted Ollama: what clients and operators see of it."""

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from itertools import pairwise

import psutil
import pytest
import redis

from tests.support.ollama_process import OllamaProcess
from tests.support.ollama_script import Fault, Rule
from tests.support.redis_server import RedisServer
from tests.support.waiting import until
from tests.support.worker_process import WorkerProcess, chat_job, everywhere, results, wait_for_results

CHAT = "llm-chat"
NOWHERE = {"ready": 0, "claimed": 0, "lease": 0, "delayed": 0}
FAST = {"RETRY_BACKOFF": "20", "OLLAMA_STALL_TIMEOUT": "300", "WORKER_TIMEOUT": "20000", "WORKER_DRAIN": "20000"}


@pytest.fixture
def client(redis_server: RedisServer, redis_url: str) -> Iterator[redis.Redis]:
    with redis_server.client() as client:
        yield client


@pytest.fixture
def worker(redis_url: str, ollama: OllamaProcess) -> Iterator[WorkerProcess]:
    with WorkerProcess(redis_url, OLLAMA_BASE_URL=ollama.url, **FAST) as worker:
        yield worker


def settled_everywhere(client: redis.Redis, queue: str = CHAT) -> None:
    """Nothing of the queue is anywhere but in results and dead letters."""
    found = until(
        lambda: (places := everywhere(client, queue)) and all(places[k] == 0 for k in NOWHERE) and places,
        10,
        "an empty queue",
    )
    assert found


def test_chat_generate_and_embed(client: redis.Redis, worker: WorkerProcess) -> None:
    """Each type of job, pushed by plain RPUSH, is answered at its result key with usage, timings and the model used."""
    client.rpush(CHAT, chat_job("c"))
    client.rpush(
        "llm-generate", json.dumps({"id": "g", "type": "generate", "model": "gemma3:270m", "prompt": "one two"})
    )
    client.rpush("llm-embed", json.dumps({"id": "e", "type": "embed", "model": "all-minilm", "input": ["a", "b"]}))
    chat = wait_for_results(client, CHAT, ["c"], 10)["c"]
    generate = wait_for_results(client, "llm-generate", ["g"], 10)["g"]
    embed = wait_for_results(client, "llm-embed", ["e"], 10)["e"]
    for answer in (chat, generate, embed):
        assert (answer["status"], answer["attempts"], answer["worker"]) == ("succeeded", 1, "w1")
        assert answer["timings"]["running"] > 0
    assert chat["content"]
    assert (chat["model_used"], chat["finish_reason"]) == ("gemma3:270m", "stop")
    assert chat["usage"]["output_tokens"] == 8
    assert generate["content"]
    assert [len(vector) for vector in embed["embeddings"]] == [8, 8]
    assert 82_800_000 < client.pttl("{llm-chat}:result:c") <= 86_400_000


def test_a_job_without_an_id_gets_one(client: redis.Redis, worker: WorkerProcess) -> None:
    """The worker makes an id, says it in the events, and answers under it."""
    with client.pubsub(ignore_subscribe_messages=True) as waiter:
        waiter.subscribe("{llm-chat}:events")
        waiter.get_message(timeout=1)
        client.rpush(CHAT, chat_job(""))
        message = until(lambda: waiter.get_message(timeout=1), 10, "the event")
    assert client.get(f"{{llm-chat}}:result:{message['data']}")


def test_streaming(client: redis.Redis, worker: WorkerProcess) -> None:
    """A streamed job's text comes piece by piece, begins with a reset, ends with the status, and equals the result."""
    client.rpush(CHAT, chat_job("s", stream=True))
    answer = wait_for_results(client, CHAT, ["s"], 10)["s"]
    entries = [fields for _, fields in client.xrange("{llm-chat}:stream:s")]
    assert entries[0]["kind"] == "reset"
    assert entries[-1] == {"kind": "end", "status": "succeeded"}
    assert "".join(entry["text"] for entry in entries if entry["kind"] == "text") == answer["content"]
    assert client.pttl("{llm-chat}:stream:s") > 0


def test_a_retried_stream_says_reset_again(client: redis.Redis, worker: WorkerProcess, ollama: OllamaProcess) -> None:
    """What a failed attempt said is void: the next attempt begins with a reset, and only its text counts."""
    ollama.script(Rule(Fault.ERROR_LINE, nth=(1,), after_tokens=5), delay_s=0.05)
    client.rpush(CHAT, chat_job("s", stream=True))
    answer = wait_for_results(client, CHAT, ["s"], 10)["s"]
    entries = [fields for _, fields in client.xrange("{llm-chat}:stream:s")]
    last_reset = max(n for n, entry in enumerate(entries) if entry["kind"] == "reset")
    assert [entry["attempt"] for entry in entries if entry["kind"] == "reset"] == ["1", "2"]
    assert "".join(e["text"] for e in entries[last_reset:] if e["kind"] == "text") == answer["content"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault.ERROR,
        Fault.LOAD_FAILED,
        Fault.STALL,
        Fault.NO_DONE,
        Fault.HALF_LINE,
        Fault.ERROR_LINE,
        Fault.CLOSE,
        Fault.BIG_LINE,
    ],
)
def test_a_server_that_fails_once_costs_an_attempt(
    client: redis.Redis, worker: WorkerProcess, ollama: OllamaProcess, fault: Fault
) -> None:
    """Whatever way it fails, the job is tried again and answered once; a truncated answer is never a success."""
    ollama.script(Rule(fault, nth=(1,)))
    client.rpush(CHAT, chat_job("r"))
    answer = wait_for_results(client, CHAT, ["r"], 10)["r"]
    assert (answer["status"], answer["attempts"]) == ("succeeded", 2)
    settled_everywhere(client)


def test_a_full_server_costs_no_attempt(client: redis.Redis, worker: WorkerProcess, ollama: OllamaProcess) -> None:
    """503 is back-pressure: the job waits, and its attempts are as they were."""
    ollama.script(Rule(Fault.BUSY, nth=(1,)))
    client.rpush(CHAT, chat_job("b"))
    answer = wait_for_results(client, CHAT, ["b"], 15)["b"]
    assert (answer["status"], answer["attempts"]) == ("succeeded", 1)


def test_a_server_that_always_fails_ends_in_a_dead_letter(
    client: redis.Redis, worker: WorkerProcess, ollama: OllamaProcess
) -> None:
    """After OLLAMA_MAX_RETRIES (3) retries the job is a dead letter and its waiter has a failed result."""
    ollama.script(Rule(Fault.ERROR))
    client.rpush(CHAT, chat_job("d"))
    answer = wait_for_results(client, CHAT, ["d"], 15)["d"]
    assert (answer["status"], answer["attempts"], answer["error"]["code"]) == ("failed", 4, "backend_failed")
    [(_, letter)] = client.xrange("{llm-chat}:dead")
    assert (letter["id"], letter["attempts"], letter["code"]) == ("d", "3", "backend_failed")
    assert ollama.seen()["count"] == {"gemma3:270m": 4}
    settled_everywhere(client)


def test_a_model_that_is_missing_is_not_asked_twice(
    client: redis.Redis, worker: WorkerProcess, ollama: OllamaProcess
) -> None:
    """A model that the server doesn't have ends the job at once: its load is refused, and no request is made."""
    client.rpush(CHAT, chat_job("m", model="nobody:1b"))
    answer = wait_for_results(client, CHAT, ["m"], 10)["m"]
    assert (answer["status"], answer["attempts"], answer["error"]["code"]) == ("failed", 0, "model_not_found")
    assert ollama.seen()["count"] == {}


def test_a_job_waits_for_a_server_that_is_away(
    client: redis.Redis, worker: WorkerProcess, ollama: OllamaProcess
) -> None:
    """Nothing was asked, so it costs nothing: the job is answered when the server is back."""
    ollama.kill()
    client.rpush(CHAT, chat_job("w"))
    until(lambda: client.zcard("{llm-chat}:delayed"), 10, "a postponed job")
    ollama.restart()
    answer = wait_for_results(client, CHAT, ["w"], 15)["w"]
    assert (answer["status"], answer["attempts"]) == ("succeeded", 1)


def test_deadlines(client: redis.Redis, worker: WorkerProcess, ollama: OllamaProcess) -> None:
    """Past its deadline, by Redis' clock, a job expires: before it runs without a call, while it runs by a cut."""
    ollama.script(tokens=100, delay_s=0.1)
    seconds, _ = client.time()
    client.rpush(CHAT, chat_job("past", deadline=seconds * 1_000 - 1))
    client.rpush(CHAT, chat_job("soon", deadline=seconds * 1_000 + 1_500))
    found = wait_for_results(client, CHAT, ["past", "soon"], 10)
    assert {answer["status"] for answer in found.values()} == {"expired"}
    assert ollama.seen()["count"] == {"gemma3:270m": 1}
    assert client.xlen("{llm-chat}:dead") == 0


def test_a_jobs_own_limit(client: redis.Redis, worker: WorkerProcess, ollama: OllamaProcess) -> None:
    """timeout_ms lowers WORKER_TIMEOUT: the job fails as timed out, and isn't tried again."""
    ollama.script(tokens=100, delay_s=0.1)
    client.rpush(CHAT, chat_job("t", timeout_ms=500))
    answer = wait_for_results(client, CHAT, ["t"], 10)["t"]
    assert (answer["status"], answer["error"]["code"], answer["attempts"]) == ("failed", "timeout", 1)


def test_cancel_while_running(client: redis.Redis, worker: WorkerProcess, ollama: OllamaProcess) -> None:
    """A cancel reaches a running job at once, hangs up on the server, and is a result, no dead letter."""
    ollama.script(tokens=1_000, delay_s=0.05)
    client.rpush(CHAT, chat_job("x"))
    until(lambda: ollama.seen()["running"], 10, "a running request")
    client.set("{llm-chat}:cancel:x", "1")
    client.publish("{llm-chat}:cancels", "x")
    answer = wait_for_results(client, CHAT, ["x"], 10)["x"]
    assert answer["status"] == "cancelled"
    until(lambda: not ollama.seen()["running"], 10, "the request's end")


def test_cancel_before_running(client: redis.Redis, worker: WorkerProcess, ollama: OllamaProcess) -> None:
    """A job whose cancel is there first never reaches the server."""
    client.set("{llm-chat}:cancel:x", "1")
    client.rpush(CHAT, chat_job("x"))
    assert wait_for_results(client, CHAT, ["x"], 10)["x"]["status"] == "cancelled"
    assert ollama.seen()["count"] == {}


def test_duplicates_never_run(client: redis.Redis, worker: WorkerProcess, ollama: OllamaProcess) -> None:
    """Twenty jobs of one id are one request and one result; the others are dropped and counted."""
    client.rpush(CHAT, *[chat_job("same")] * 20)
    wait_for_results(client, CHAT, ["same"], 10)
    settled_everywhere(client)
    assert ollama.seen()["count"] == {"gemma3:270m": 1}
    assert client.hget("{llm-chat}:stats", "dropped_duplicates") == "19"


BAD = [
    "not json",
    '{"id":"n","x":NaN}',
    "[" * 100_000,
    '{"a":' * 100_000,
    '{"id":"k","id":"k2"}',
    '{"id":"s","x":"\\ud800"}',
    '{"id":"u","type":"chat","model":"m","messages":[{"role":"user","content":"x"}],"stray":1}',
    '{"id":"t","type":"chat","model":5,"messages":"x"}',
    "",
    "\x011|half a header",
    b"\x011|\xff|n|1|0|5|0|0|{}",
    "\x011|a:1|n|1|0|" + "9" * 400 + "|0|0|{}",
    '"' + "x" * 2_000_000 + '"',
]


def test_malformed_jobs_are_dead_letters_and_stop_nothing(
    client: redis.Redis, redis_url: str, worker: WorkerProcess
) -> None:
    """Every kind of bad input ends as a dead letter with a reason, in bounded memory, and a good job behind it runs."""
    before = psutil.Process(worker.child.pid).memory_info().rss
    for _ in range(5):
        client.rpush(CHAT, *BAD)
    client.rpush(CHAT, "y" * 60_000_000)
    client.rpush(CHAT, chat_job("good"))
    assert wait_for_results(client, CHAT, ["good"], 20)["good"]["status"] == "succeeded"
    settled_everywhere(client)
    with redis.Redis.from_url(redis_url) as raw:
        letters = [fields for _, fields in raw.xrange("{llm-chat}:dead")]
    assert len(letters) == 5 * len(BAD) + 1
    assert all(letter[b"code"] in (b"not_json", b"invalid", b"too_large") and letter[b"reason"] for letter in letters)
    assert results(client, CHAT, ["u"])["u"]["status"] == "failed"
    assert psutil.Process(worker.child.pid).memory_info().rss - before < 40_000_000
    assert worker.get("/health/ready")[0] == 200


def test_prompts_and_answers_stay_out_of_logs_and_metrics(client: redis.Redis, worker: WorkerProcess) -> None:
    """At debug level, through success and failure, neither text appears in a log, a metric, health or a dead reason."""
    secret = "zanzibar-marmalade"
    client.rpush(
        CHAT, chat_job("ok", secret), chat_job("bad", secret, model="nobody"), chat_job("no", secret, stray=secret)
    )
    found = wait_for_results(client, CHAT, ["ok", "bad", "no"], 10)
    assert secret in found["ok"]["content"]
    told = [worker.log, worker.get("/metrics")[1], worker.get("/health")[1]]
    told += [fields["reason"] for _, fields in client.xrange("{llm-chat}:dead")]
    assert not any(secret in text for text in told)


def test_metrics_and_health(client: redis.Redis, worker: WorkerProcess) -> None:
    """Each health path answers, and the counters tell what was done."""
    client.rpush(CHAT, chat_job("a"), "junk")
    wait_for_results(client, CHAT, ["a"], 10)
    settled_everywhere(client)
    metrics = worker.get("/metrics")[1]
    assert 'llm_worker_jobs_total{outcome="succeeded",queue="llm-chat"} 1.0' in metrics
    assert 'llm_worker_jobs_total{outcome="failed",queue="llm-chat"} 1.0' in metrics
    assert 'llm_worker_tokens_total{direction="output",queue="llm-chat"} 8.0' in metrics
    assert [worker.get(f"/health{path}")[0] for path in ("", "/live", "/ready")] == [200, 200, 200]
    health = worker.health()
    assert (health["status"], health["in_flight"], health["capacity"], health["done"]) == ("ready", 0, 5, 2)
    report = json.loads(client.hget("{pool:local/default}:workers", "w1"))
    assert (report["state"], report["capacity"], report["pool"]) == ("ready", 5, "local/default")


def test_sigterm_finishes_what_runs_and_takes_nothing_new(
    client: redis.Redis, worker: WorkerProcess, ollama: OllamaProcess
) -> None:
    """Stopping claims nothing more within 100 ms, lets running jobs end, leaves the rest ready, and exits 0."""
    ollama.script(tokens=20, delay_s=0.05)
    client.rpush(CHAT, *[chat_job(f"a{n}") for n in range(5)])
    until(lambda: ollama.seen()["running"] == 5, 10, "five running jobs")
    worker.signal(signal.SIGTERM)
    until(lambda: '"event": "stopping"' in worker.log, 0.1 + 1, "the stop's log line")
    client.rpush(CHAT, *[chat_job(f"b{n}") for n in range(3)])
    assert worker.ended(10) == 0
    assert all(
        answer["status"] == "succeeded"
        for answer in wait_for_results(client, CHAT, [f"a{n}" for n in range(5)], 1).values()
    )
    assert everywhere(client, CHAT)["ready"] == 3
    assert everywhere(client, CHAT)["claimed"] == 0
    assert client.hget("{pool:local/default}:workers", "w1") is None


def test_a_second_signal_gives_back_at_no_cost(client: redis.Redis, redis_url: str, ollama: OllamaProcess) -> None:
    """What a hurried stop cuts goes back to the front of its list with no attempt and no delivery counted."""
    ollama.script(tokens=1_000, delay_s=0.05)
    with WorkerProcess(redis_url, OLLAMA_BASE_URL=ollama.url, **FAST) as worker:
        client.rpush(CHAT, chat_job("a"))
        until(lambda: ollama.seen()["running"] == 1, 10, "a running job")
        worker.signal(signal.SIGTERM)
        until(lambda: '"event": "stopping"' in worker.log, 5, "the stop's log line")
        worker.signal(signal.SIGTERM)
        assert worker.ended(10) == 0
    [raw] = client.lrange(CHAT, 0, -1)
    assert re.match(r"\x011\|[0-9a-f]+:1\|n\|0\|0\|", raw)


def test_kill_9_gives_the_jobs_to_others(client: redis.Redis, redis_url: str, ollama: OllamaProcess) -> None:
    """Jobs of a killed worker are at work elsewhere within the lease + 5 s, and each has exactly one result."""
    ollama.script(tokens=1_000, delay_s=0.05)
    env = {"OLLAMA_BASE_URL": ollama.url, **FAST, "WORKER_LEASE": "2000"}
    with WorkerProcess(redis_url, worker_id="w1", **env) as first:
        client.rpush(CHAT, *[chat_job(f"k{n}") for n in range(5)])
        until(lambda: ollama.seen()["running"] == 5, 10, "five running jobs")
        with WorkerProcess(redis_url, worker_id="w2", **env):
            ollama.script(tokens=5)
            first.child.kill()
            found = wait_for_results(client, CHAT, [f"k{n}" for n in range(5)], 2 + 5)
            assert {answer["worker"] for answer in found.values()} == {"w2"}
            settled_everywhere(client)


def test_a_zombie_can_not_answer(client: redis.Redis, redis_url: str, ollama: OllamaProcess) -> None:
    """A worker that slept through its lease finds its jobs lost: the answer of the one who took over stands."""
    ollama.script(tokens=40, delay_s=0.05)
    env = {"OLLAMA_BASE_URL": ollama.url, **FAST, "WORKER_LEASE": "1000"}
    with WorkerProcess(redis_url, worker_id="w1", **env) as first:
        client.rpush(CHAT, chat_job("z"))
        until(lambda: ollama.seen()["running"] == 1, 10, "a running job")
        first.signal(signal.SIGSTOP)
        with WorkerProcess(redis_url, worker_id="w2", **env):
            answer = wait_for_results(client, CHAT, ["z"], 15)["z"]
            first.signal(signal.SIGCONT)
            until(lambda: '"outcome": "lost"' in first.log, 10, "the loss being noticed")
    assert answer["worker"] == "w2"
    assert results(client, CHAT, ["z"])["z"] == answer


def test_a_job_that_kills_its_workers_is_poison(client: redis.Redis, redis_url: str, ollama: OllamaProcess) -> None:
    """After three deliveries without an end the job is a dead letter and has a failed result; its neighbour runs."""
    ollama.script(tokens=1_000, delay_s=0.05)
    env = {"OLLAMA_BASE_URL": ollama.url, **FAST, "WORKER_LEASE": "1000", "WORKER_CONCURRENCY": "1"}
    client.rpush(CHAT, chat_job("poison"))
    for _ in range(3):
        with WorkerProcess(redis_url, **env) as worker:
            until(lambda: ollama.seen()["running"] == 1, 15, "the job running again")
            worker.child.kill()
        until(lambda: not ollama.seen()["running"], 5, "the request's end")
    ollama.script()
    client.rpush(CHAT, chat_job("neighbour"))
    with WorkerProcess(redis_url, **env):
        found = wait_for_results(client, CHAT, ["poison", "neighbour"], 15)
    assert found["poison"]["error"]["code"] == "poison"
    assert found["neighbour"]["status"] == "succeeded"
    assert ollama.seen()["count"] == {"gemma3:270m": 1}


def test_redis_killed_and_restarted(own_redis: RedisServer, ollama: OllamaProcess) -> None:
    """Through kills of Redis the worker stays up, comes back by itself, and no acknowledged job is lost."""
    ollama.script(tokens=4, delay_s=0.01)
    ids = [f"r{n}" for n in range(300)]
    with WorkerProcess(own_redis.url, OLLAMA_BASE_URL=ollama.url, **FAST, WORKER_LEASE="2000") as worker:
        with own_redis.client() as client:
            client.rpush(CHAT, *[chat_job(job_id) for job_id in ids])
        for _ in range(3):
            with own_redis.client() as client:
                seen = len([answer for answer in results(client, CHAT, ids).values() if answer])
                until(lambda s=seen: sum(1 for a in results(client, CHAT, ids).values() if a) > s, 15, "progress")
            own_redis.kill()
            own_redis.restart()
        with own_redis.client() as client:
            found = wait_for_results(client, CHAT, ids, 40)
            assert {answer["status"] for answer in found.values()} == {"succeeded"}
            settled_everywhere(client)
        assert worker.child.running()


def test_another_worker_shares_the_queue(
    client: redis.Redis, worker: WorkerProcess, redis_url: str, ollama: OllamaProcess
) -> None:
    """Two workers take from one queue, and each job is run by one of them."""
    ollama.script(tokens=3, delay_s=0.02)
    with WorkerProcess(redis_url, worker_id="w2", OLLAMA_BASE_URL=ollama.url, **FAST):
        ids = [f"j{n}" for n in range(60)]
        client.rpush(CHAT, *[chat_job(job_id) for job_id in ids])
        found = wait_for_results(client, CHAT, ids, 20)
    assert {answer["worker"] for answer in found.values()} == {"w1", "w2"}
    assert ollama.seen()["count"] == {"gemma3:270m": 60}


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"WORKER_CONCURRENCY": "many"}, "WORKER_CONCURRENCY: got 'many'"),
        ({"WORKER_CONCURRENCY": "0"}, "greater than or equal to 1"),
        ({"WORKER_DRAIN": "1000"}, "WORKER_DRAIN: got 1000 ms, wanted at least WORKER_TIMEOUT"),
        ({"BACKEND": "gpt"}, "'ollama', 'openai' or 'echo'"),
        ({"WORKER_QUEUES": "llm-chat,llm-chat"}, "is there twice"),
        ({"OLLAMA_BASE_URL": "http://user:hunter2@host"}, "a value that isn't shown"),
        ({"OLLAMA_BASE_URL": "http://localhost:11434/v1"}, "leave /v1 or /api out"),
        ({"REDIS_URL": "localhost:6379"}, "REDIS_URL: got a value that isn't shown: wanted one of redis://"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_settings_stop_the_start(redis_url: str, env: dict[str, str], says: str) -> None:
    """A wrong value ends the start with status 2, its name, what was given and what is allowed, and no secret."""
    worker = WorkerProcess(redis_url, **env)
    worker.child.start()
    assert worker.ended(10) == 2
    worker.remove()
    assert says in worker.log
    assert "hunter2" not in worker.log


def test_waiting_costs_nothing(client: redis.Redis, worker: WorkerProcess) -> None:
    """An idle worker doesn't poll: it asks Redis only for its report, each second, for its turn at the model server,
    each third, and for a round of tending; a script's own commands are counted, too."""
    until(lambda: int(client.info("stats")["total_commands_processed"]), 5, "a count")
    counts = []
    for _ in range(3):
        counts.append(int(client.info("stats")["total_commands_processed"]))
        time.sleep(1)  # the thing measured is what happens in a second of idleness
    assert max(later - earlier for earlier, later in pairwise(counts)) < 30
    assert psutil.Process(worker.child.pid).cpu_percent(interval=1) < 10


def test_a_redis_on_a_unix_socket(ollama: OllamaProcess) -> None:
    """REDIS_URL may name a socket of this machine."""
    with (
        RedisServer(unix_socket=True) as server,
        WorkerProcess(server.url, OLLAMA_BASE_URL=ollama.url, **FAST),
        server.client() as client,
    ):
        client.rpush(CHAT, chat_job("u"))
        assert wait_for_results(client, CHAT, ["u"], 10)["u"]["status"] == "succeeded"


def test_a_servers_words_stay_with_the_job(client: redis.Redis, worker: WorkerProcess, ollama: OllamaProcess) -> None:
    """A server that repeats the prompt in its error puts it into the job's own result, and nowhere else."""
    secret = "zanzibar-marmalade"
    ollama.script(Rule(Fault.ERROR_LINE, message=f"can't say: {secret}"))
    client.rpush(CHAT, chat_job("e"))
    answer = wait_for_results(client, CHAT, ["e"], 15)["e"]
    assert secret in answer["error"]["message"]
    [(_, letter)] = client.xrange("{llm-chat}:dead")
    assert secret not in letter["reason"] + worker.log + worker.get("/metrics")[1] + worker.get("/health")[1]


def test_a_queue_that_cannot_settle_holds_up_no_other(client: redis.Redis, worker: WorkerProcess) -> None:
    """A key of the wrong type under one queue's name stops that queue alone."""
    client.set("{llm-embed}:dead", "somebody else's")
    client.rpush("llm-embed", json.dumps({"id": "e", "type": "embed", "model": "all-minilm", "input": "a"}))
    client.rpush(CHAT, chat_job("c"))
    assert wait_for_results(client, CHAT, ["c"], 10)["c"]["status"] == "succeeded"
    client.delete("{llm-embed}:dead")
    assert wait_for_results(client, "llm-embed", ["e"], 10)["e"]["status"] == "succeeded"


def test_an_absent_server_turns_no_backlog_over(
    client: redis.Redis, worker: WorkerProcess, ollama: OllamaProcess
) -> None:
    """While the model server is away one job at a time asks for it; the others keep their places and their order."""
    ollama.kill()
    ids = [f"j{n}" for n in range(100)]
    client.rpush(CHAT, *[chat_job(job_id) for job_id in ids])
    until(lambda: client.zcard("{llm-chat}:delayed"), 10, "a postponed job")
    time.sleep(3)  # the thing measured is how many jobs are moved in a while
    assert client.llen(CHAT) >= 90
    ollama.restart()
    found = wait_for_results(client, CHAT, ids, 30)
    assert {(answer["status"], answer["attempts"]) for answer in found.values()} == {("succeeded", 1)}


def test_a_frozen_redis_ends_work_with_its_lease(own_redis: RedisServer, ollama: OllamaProcess) -> None:
    """While Redis is silent leases end by the worker's own clock: what can't be shown to be ours is stopped."""
    ollama.script(tokens=1_000, delay_s=0.05)
    env = {**FAST, "WORKER_LEASE": "2000"}
    with WorkerProcess(own_redis.url, OLLAMA_BASE_URL=ollama.url, **env) as worker, own_redis.client() as client:
        client.rpush(CHAT, chat_job("a"))
        client.rpush("llm-generate", json.dumps({"id": "g", "type": "generate", "model": "gemma3:270m", "prompt": "x"}))
        until(lambda: ollama.seen()["running"] == 2, 10, "two running jobs")
        os.kill(own_redis.pid, signal.SIGSTOP)
        try:
            until(lambda: ollama.seen()["running"] == 0, 2 + 3, "both stopped")
        finally:
            os.kill(own_redis.pid, signal.SIGCONT)
        ollama.script(tokens=2)
        assert wait_for_results(client, CHAT, ["a"], 15)["a"]["status"] == "succeeded"
        assert worker.child.running()


def test_a_failover_that_leaves_connections_open(own_redis: RedisServer, ollama: OllamaProcess) -> None:
    """A connection to a server that has become a replica is given up, so that the next one finds the new master."""

    def writers(client: redis.Redis) -> set[str]:
        return {c["id"] for c in client.client_list() if c["cmd"] in ("eval", "evalsha") and "b" not in c["flags"]}

    with WorkerProcess(own_redis.url, OLLAMA_BASE_URL=ollama.url, **FAST), own_redis.client() as client:
        client.rpush(CHAT, chat_job("before"))
        wait_for_results(client, CHAT, ["before"], 10)
        old = writers(client)
        client.replicaof("127.0.0.1", "1")
        until(lambda: old - writers(client), 20, "a connection given up")
        client.replicaof("no", "one")
        client.rpush(CHAT, chat_job("after"))
        assert wait_for_results(client, CHAT, ["after"], 20)["after"]["status"] == "succeeded"


def test_models_of_a_cloud_are_refused(client: redis.Redis, worker: WorkerProcess, ollama: OllamaProcess) -> None:
    """A model that Ollama would run elsewhere never gets a prompt."""
    client.rpush(CHAT, chat_job("c", model="gpt-oss:120b-cloud"))
    answer = wait_for_results(client, CHAT, ["c"], 10)["c"]
    assert (answer["status"], answer["error"]["code"]) == ("failed", "invalid")
    assert ollama.seen()["count"] == {}


def test_connections_to_the_server_are_kept(client: redis.Redis, worker: WorkerProcess, ollama: OllamaProcess) -> None:
    """Jobs share connections: an answer is read to its end. The worker's questions about models have their own."""
    server = psutil.Process(worker.child.pid)

    def ports() -> set[int]:
        wanted = int(ollama.url.rpartition(":")[2])
        return {c.laddr.port for c in server.net_connections("tcp") if c.raddr and c.raddr.port == wanted}

    jobs = 20
    seen: set[int] = set()
    for n in range(jobs):
        client.rpush(CHAT, chat_job(f"k{n}"))
        wait_for_results(client, CHAT, [f"k{n}"], 10)
        seen |= ports()
    assert 0 < len(seen) < jobs / 4
