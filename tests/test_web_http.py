"""The operator's page over HTTP: a real operator, a real API server, a real Redis."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from llmpool_operator.web.page import MOST_LISTENERS
from tests.support.control_plane import ControlPlane
from tests.support.operator_process import OperatorProcess, Pools
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually
from tests.support.web_pool import SECRET, bury

pytestmark = pytest.mark.control_plane


@pytest.fixture
async def operator(
    pools: Pools, control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> AsyncIterator[OperatorProcess]:
    await pools.make("chat", redis_url, scaling={"idleSeconds": 600})
    with OperatorProcess(control_plane.kubeconfig, pools.namespace, tmp_path / "operator.log") as started:
        await asyncio.to_thread(started.listens)
        yield started


@pytest.fixture
async def http(operator: OperatorProcess) -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{operator.port}", timeout=timeout) as session:
        yield session


async def state(http: aiohttp.ClientSession, query: str = "") -> Any:
    async with http.get(f"/api/v1/state{query}") as answer:
        assert answer.status == 200
        return await answer.json()


class Events:
    """A stream of events, as a browser reads it."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self.last_id = ""

    async def next(self) -> Any:
        """The data of the next event."""
        while line := (await self._answer.content.readline()).decode().rstrip("\n"):
            if line.startswith("retry:"):
                await self._answer.content.readline()
            if line.startswith("id: "):
                self.last_id = line.removeprefix("id: ")
            if line.startswith("data: "):
                await self._answer.content.readline()
                return json.loads(line.removeprefix("data: "))
        raise EOFError


async def heard(events: Events, wanted: Any, what: str) -> Any:
    """Read events until one fits."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        event = await events.next()
        if wanted(event):
            return event
    raise AssertionError(f"not heard: {what}")


async def test_a_snapshot(
    http: aiohttp.ClientSession, pools: Pools, redis_server: RedisServer, operator: OperatorProcess
) -> None:
    """One answer has the operator, all pools and, where one is named, all about it: dead letters without their body."""
    with redis_server.client() as client:
        bury(client, "llm-chat")
        client.rpush("llm-chat", *["{}"] * 7)

    async def decided() -> Any:
        found = await state(http, f"?pool={pools.namespace}/chat")
        known = found["pools"] and found["pools"][0]["queued"] == 7 and found["pools"][0]["dead"] == 1
        return found if known and found["decisions"] else None

    found = await eventually(decided, 30, "the pool with its jobs")
    assert found["operator"]["role"] == "leader"
    assert found["operator"]["leader"] != ""
    assert (found["whole"], found["gone"]) == (True, [])
    assert found["decisions"][0]["after"] == 2
    [letters] = found["pool"]["letters"]
    assert letters["letters"][0]["id"] == "job-7"
    assert letters["letters"][0]["reason"] == "model: Field required"
    assert SECRET not in json.dumps(found)
    assert SECRET not in operator.child.log.read_text()
    assert (await state(http, "?pool=no/such"))["pool"] is None
    assert [one["name"] for one in (await state(http))["pools"]] == [one["name"] for one in found["pools"]]


async def test_a_stream_tells_and_goes_on_where_it_was(
    http: aiohttp.ClientSession, pools: Pools, redis_server: RedisServer
) -> None:
    """First the whole, then each second what changed; who comes back with the last id gets what they missed."""
    async with http.get("/api/v1/events") as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        events = Events(answer)
        assert (await events.next())["whole"]
        with redis_server.client() as client:
            client.rpush("llm-chat", *["{}"] * 3)
        await heard(events, lambda e: e["pools"] and e["pools"][0]["queued"] == 3, "three jobs")
        assert not (await events.next())["whole"]
        last = events.last_id
    with redis_server.client() as client:
        client.rpush("llm-chat", "{}")
    async with http.get("/api/v1/events", headers={"Last-Event-ID": last}) as answer:
        event = await heard(Events(answer), lambda e: e["pools"] and e["pools"][0]["queued"] == 4, "a fourth")
        assert not event["whole"]
    async with http.get("/api/v1/events", headers={"Last-Event-ID": "another-process:1"}) as answer:
        assert (await Events(answer).next())["whole"]


async def test_listeners_are_few_and_never_hold_up_the_end(
    http: aiohttp.ClientSession, operator: OperatorProcess
) -> None:
    """One more than the bound is told to come back later, a place that is left is given on, and SIGTERM ends them all
    and the process within its usual time."""
    answers = [await http.get("/api/v1/events") for _ in range(MOST_LISTENERS)]
    async with http.get("/api/v1/events") as refused:
        assert (refused.status, refused.headers["Retry-After"]) == (503, "10")
    answers.pop().close()

    async def let_in() -> bool:
        async with http.get("/api/v1/events") as answer:
            return answer.status == 200

    await eventually(let_in, 30, "a place that was left")
    status = await asyncio.to_thread(operator.child.stop, 30)
    assert status == 0
    assert operator.said("operator stopped")
    for answer in answers:
        answer.close()


async def test_nothing_but_reading(http: aiohttp.ClientSession) -> None:
    """Whatever isn't GET or HEAD is 405, on every path; HEAD has no body, and every answer has the headers that bound
    what a browser does with it."""
    for path in ("/", "/page.js", "/api/v1/state", "/api/v1/events", "/metrics", "/no-such"):
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            async with http.request(method, path) as answer:
                assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD"), path
        async with http.head(path) as answer:
            assert answer.status == (404 if path == "/no-such" else 200), path
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert await answer.read() == b""


async def test_wrong_questions(http: aiohttp.ClientSession) -> None:
    """A pool that can't be one is 400 with what is allowed; a host that isn't this operator's is 403."""
    async with http.get("/api/v1/state?pool=chat") as answer:
        assert (answer.status, await answer.text()) == (400, "pool: allowed is NAMESPACE/NAME\n")
    async with http.get("/", headers={"Host": "evil.example.com"}) as answer:
        assert answer.status == 403
    async with http.get("/metrics", headers={"Host": "evil.example.com"}) as answer:
        assert answer.status == 200


async def test_a_standby_says_so(
    operator: OperatorProcess, pools: Pools, control_plane: ControlPlane, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Who doesn't lead shows the pools by their statuses, and names who leads."""

    async def written() -> bool:
        return "replicas" in await pools.status("chat")

    await eventually(written, 30, "the leader's status")
    leader = (await state(http))["operator"]["leader"]
    with OperatorProcess(control_plane.kubeconfig, pools.namespace, tmp_path / "second.log") as second:
        await asyncio.to_thread(second.listens)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{second.port}") as there:

            async def shown() -> Any:
                found = await state(there)
                return found if found["pools"] and found["operator"]["leader"] else None

            found = await eventually(shown, 30, "the standby's pool")
    assert (found["operator"]["role"], found["operator"]["leader"]) == ("standby", leader)
    assert (found["pools"][0]["source"], found["pools"][0]["size"]) == ("status", 0)


async def test_no_page_where_it_is_off(
    pools: Pools, control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """WEB_ACCESS=off leaves health and metrics alone."""
    log = tmp_path / "operator.log"
    with OperatorProcess(control_plane.kubeconfig, pools.namespace, log, WEB_ACCESS="off") as operator:
        await asyncio.to_thread(operator.listens)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{operator.port}") as http:
            for path in ("/", "/api/v1/state", "/api/v1/events"):
                async with http.get(path) as answer:
                    assert answer.status == 404
