"""The synchronous client: the same answers from plain threads, and nothing left behind."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from llmpool_client import (
    BadJob,
    Durability,
    End,
    JobRef,
    JobStatus,
    NotDurable,
    QueueFull,
    QueueUnavailable,
    ResultTimeout,
    SyncClient,
    Text,
)
from llmpool_client.stepping import Steps
from llmpool_contract import QueueKeys, Result, Status
from tests.support.processes import free_port
from tests.support.waiting import until

CHAT = QueueKeys("llm-chat")
HELLO = {"type": "chat", "model": "m", "messages": [{"role": "user", "content": "hello"}]}


def settle(redis_url: str, job_id: str) -> Result:
    result = Result(id=job_id, status=Status.SUCCEEDED, content=job_id, attempts=1)
    with Redis.from_url(redis_url) as redis:
        redis.set(CHAT.result(job_id), result.to_json())
        redis.publish(CHAT.events, job_id)
    return result


def test_submit_wait_and_follow(redis_url: str) -> None:
    """Submit, status, result, stream, cancel and queues work from a thread without an event loop."""
    with SyncClient.from_url(redis_url) as client:
        ref = client.submit(HELLO, stream=True)
        assert client.status(ref) is JobStatus.QUEUED
        assert client.queues(["llm-chat"])[0].ready == 1
        assert client.cancel(ref) is JobStatus.QUEUED
        with pytest.raises(ResultTimeout):
            client.result(ref, timeout=0.05)
        with Redis.from_url(redis_url) as redis:
            redis.xadd(CHAT.stream(ref.id), {"kind": "text", "text": "a", "attempt": "1"})
        result = settle(redis_url, ref.id)
        assert list(client.stream(ref, timeout=30)) == [Text("a", 1), End(result)]
        assert client.result(ref.id) == result
        assert client.now_ms() > 0


def test_many_threads_share_one_client(redis_url: str) -> None:
    """Waiters in twenty threads each get their own result."""
    with SyncClient(redis_url) as client, ThreadPoolExecutor(20) as threads:
        refs = client.submit_many([HELLO] * 20)
        waiting = [threads.submit(client.result, ref, timeout=30) for ref in refs]
        for ref in refs:
            settle(redis_url, ref.id)
        assert [future.result().content for future in waiting] == [ref.id for ref in refs]


def test_chat_is_submit_and_wait(redis_url: str) -> None:
    """chat makes a job of the text and hands back its result."""
    with SyncClient(redis_url) as client, ThreadPoolExecutor(1) as threads:
        asking = threads.submit(client.chat, "m", "hello", timeout=30, id="mine")
        with Redis.from_url(redis_url) as redis:
            taken = redis.blpop(["llm-chat"], timeout=5)
        assert taken
        assert b'"hello"' in taken[1]
        settle(redis_url, "mine")
        assert asking.result().content == "mine"


def test_left_stream_is_closed(redis_url: str) -> None:
    """Leaving the loop early closes the stream's connection."""
    with SyncClient(redis_url) as client, Redis.from_url(redis_url) as redis:
        ref = client.submit(HELLO)
        redis.xadd(CHAT.stream(ref.id), {"kind": "text", "text": "a", "attempt": "1"})
        before = len(redis.client_list())
        events = client.stream(ref)
        next(events)
        assert len(redis.client_list()) == before + 1
        events.close()
        until(lambda: len(redis.client_list()) == before, 5, "the end of the stream's connection")


def test_interrupted_stream_is_closed(redis_url: str) -> None:
    """A step that was cut short at any moment, as by Ctrl-C, neither blocks the close nor goes on behind it."""
    with SyncClient(redis_url) as client, Redis.from_url(redis_url) as redis:
        ref = client.submit(HELLO)
        before = len(redis.client_list())
        for ticks in range(12):
            redis.xadd(CHAT.stream(ref.id), {"kind": "text", "text": "a", "attempt": "1"})
            client._run(_cut_short(client, ref, ticks))
            # Redis notices a closed connection a moment after its end is closed here.
            until(lambda: len(redis.client_list()) == before, 5, "the end of the stream's connection")


async def _cut_short(client: SyncClient, ref: JobRef, ticks: int) -> None:
    events = Steps(client._client.stream(ref))
    await asyncio.create_task(events.next())
    step = asyncio.create_task(_all(events))
    for _ in range(ticks):
        await asyncio.sleep(0)
    step.cancel()
    await events.close()


async def _all(events: Steps) -> None:
    while await events.next():
        pass


def test_errors_are_the_same(redis_url: str) -> None:
    """Typed errors cross the thread as they are."""
    with SyncClient(redis_url) as client, pytest.raises(BadJob):
        client.submit(type="chat")
    with SyncClient(f"redis://127.0.0.1:{free_port()}/0") as client, pytest.raises(QueueUnavailable):
        client.result(JobRef("x", "llm-chat"))
    with pytest.raises(ValueError, match="Redis URL"):
        SyncClient("nonsense")


def test_close_ends_the_thread(redis_url: str) -> None:
    """After close no thread is left; closing twice does nothing."""
    client = SyncClient(redis_url)
    client.submit(HELLO)
    client.close()
    client.close()
    assert [thread.name for thread in threading.enumerate() if thread.name == "llmpool-client"] == []


def test_terms_and_questions_go_through(redis_url: str) -> None:
    """Limits, durability and `why` are the asynchronous client's."""
    with SyncClient(redis_url, max_queued=1) as client:
        ref = client.submit(HELLO)
        facts = client.why(ref)
        assert (facts.status, facts.place.ahead) == (JobStatus.QUEUED, 0)
        with pytest.raises(QueueFull):
            client.submit(HELLO)
        client.limit_queue("llm-chat", 2)
        client.submit(HELLO, max_queued=5)
        with pytest.raises(QueueFull):
            client.submit_many([HELLO], max_queued=5)
        with pytest.raises(NotDurable):
            client.submit(HELLO, queue="q", durable=Durability(local=0, replicas=1, timeout_ms=1))
