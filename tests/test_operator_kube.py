"""Calls to an API server that is odd, and the Secrets that are read from it."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from llmpool_operator.credentials import Credentials
from llmpool_operator.decide.types import Missing
from llmpool_operator.kube import MANIFESTS_AT_ONCE, SCALES_AT_ONCE, APIError, KubeAPI
from llmpool_operator.observe import Endpoint
from tests.support.waiting import eventually

SECRET = {
    "metadata": {"name": "auth", "labels": {"llmpool.dev/redis": "true"}},
    "data": {"password": "/wA="},
}
SCALE = "/apis/apps/v1/namespaces/ns/deployments/chat/scale"
KNOWN = Endpoint("redis://r", password=b"\xff\x00")


def kubeconfig(cluster: dict[str, Any], user: dict[str, Any]) -> str:
    return json.dumps(
        {
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
    )


TOKEN, HERE = {"token": "t"}, {"server": "https://127.0.0.1:9"}
EXEC = {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-plugin"}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a: [", id="no yaml"),
        pytest.param("[]", id="a list"),
        pytest.param("", id="empty"),
        pytest.param(kubeconfig({**HERE, "certificate-authority-data": "Z2FyYmFnZQ=="}, TOKEN), id="ca"),
        pytest.param(kubeconfig({**HERE, "certificate-authority-data": "?"}, TOKEN), id="no base64"),
        pytest.param(kubeconfig({**HERE, "certificate-authority": "nowhere"}, TOKEN), id="ca file"),
        pytest.param(kubeconfig({"server": "no address"}, TOKEN), id="address"),
        pytest.param(kubeconfig(HERE, {"exec": EXEC}), id="plugin"),
        pytest.param(kubeconfig(HERE, {"tokenFile": "nowhere"}), id="token file"),
    ],
)
async def test_no_way_to_the_cluster_is_one_kind_of_error(text: str, tmp_path: Path) -> None:
    """A kubeconfig that can't be used, at the start or later, is told and tried again: it never ends the process."""
    (tmp_path / "kubeconfig").write_text(text)
    api = KubeAPI(str(tmp_path / "kubeconfig"))
    with pytest.raises(APIError) as caught:
        await api.get("/version")
    assert (caught.value.status, api.troubles) == (0, 1)
    await api.close()


class Answers:
    """An API server that gives one answer to everything."""

    def __init__(self) -> None:
        self.status = 200
        self.body: dict[str, Any] = SECRET
        self.headers: dict[str, str] = {}
        self.turned_away = 0
        """So many calls are answered as told, the others after them with 200."""
        self.asked = self.now = self.most = 0
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, _: web.Request) -> web.Response:
        self.asked += 1
        self.now += 1
        self.most = max(self.most, self.now)
        await self.go.wait()
        self.now -= 1
        if 0 < self.turned_away < self.asked:
            return web.json_response(self.body)
        return web.json_response(self.body, status=self.status, headers=self.headers)


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
async def api(answers: Answers, unused_tcp_port: int, tmp_path: Path) -> AsyncIterator[KubeAPI]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answers.__call__)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    (tmp_path / "kubeconfig").write_text(kubeconfig({"server": f"http://127.0.0.1:{unused_tcp_port}"}, TOKEN))
    held = KubeAPI(str(tmp_path / "kubeconfig"))
    yield held
    await held.close()
    await runner.cleanup()


class Clock:
    """Seconds that the test turns."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_credentials_outlast_a_failing_api_server(api: KubeAPI, answers: Answers) -> None:
    """A Secret that was read is used on while it can't be read again, which is tried more often; not once it's gone."""
    clock = Clock()
    credentials = Credentials(api, clock)

    async def found() -> Endpoint | Missing:
        return await credentials.endpoint("ns", "redis://r", "auth")

    async def later() -> Endpoint | Missing:
        """What is known once the read that this asks for is over: nobody waits for it meanwhile."""
        assert await found() == KNOWN
        await asyncio.gather(*credentials._reading.values())
        return await found()

    assert await found() == KNOWN
    answers.status, clock.now = 503, 61
    assert (await later(), answers.asked) == (KNOWN, 2)
    clock.now = 72
    assert (await later(), answers.asked) == (KNOWN, 3)
    answers.status, clock.now = 404, 83
    assert await later() == Missing("SecretNotFound: auth")
    answers.status, clock.now = 503, 94
    assert isinstance(await found(), Missing), "what was gone doesn't come back by a failure"


async def test_secrets_that_nobody_asks_for_are_forgotten(api: KubeAPI) -> None:
    """Passwords of pools that are gone don't stay in memory."""
    clock = Clock()
    credentials = Credentials(api, clock)
    await credentials.endpoint("ns", "redis://r", "auth")
    clock.now = 10_000
    await credentials.endpoint("ns", "redis://other", "auth")
    assert [url for _, _, url in credentials._kept] == ["redis://other"]


async def test_a_slow_answer_is_waited_for_beside_the_ticks(api: KubeAPI, answers: Answers) -> None:
    """An API server that takes longer than a tick for a Secret is asked once, and its answer counts when it comes."""
    credentials = Credentials(api, Clock())
    answers.go.clear()
    assert await credentials.endpoint("ns", "redis://r", "auth") == Missing("SecretUnreadable: auth: no answer")
    answers.go.set()

    async def read() -> bool:
        return isinstance(await credentials.endpoint("ns", "redis://r", "auth"), Endpoint)

    await eventually(read, 5, "the Secret")
    assert answers.asked == 1
    await credentials.close()


LOGIN = {"password": b"pw", "sentinelUsername": b"watcher", "sentinelPassword": b"w0rd", "other": b"not kept"}


async def test_sentinels_have_a_login_of_their_own(api: KubeAPI, answers: Answers) -> None:
    """Two more keys of the Secret, which may be left out; one that is no text is told, without a word of it."""
    url = "redis+sentinel://s/jobs"
    data = {key: base64.b64encode(value).decode() for key, value in LOGIN.items()}
    answers.body = {**SECRET, "data": data}
    assert await Credentials(api, Clock()).endpoint("ns", url, "auth") == Endpoint(
        url, password=b"pw", sentinel_username="watcher", sentinel_password="w0rd"
    )
    answers.body = {**SECRET, "data": {**data, "sentinelPassword": base64.b64encode(b"\xff").decode()}}
    assert await Credentials(api, Clock()).endpoint("ns", url, "auth") == Missing(
        "SecretUnreadable: auth has a login for Sentinels that is not UTF-8"
    )


@pytest.mark.parametrize(
    ("headers", "asked"),
    [
        pytest.param({"Retry-After": "0"}, 5, id="not for ever"),
        pytest.param({}, 1, id="no time told"),
        pytest.param({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 1, id="a date"),
        pytest.param({"Retry-After": "-1"}, 1, id="before now"),
    ],
)
async def test_a_call_that_is_turned_away_fails_in_the_end(
    api: KubeAPI, answers: Answers, headers: dict[str, str], asked: int
) -> None:
    """A 429 without a time, or time and again, is its caller's business."""
    answers.status, answers.headers = 429, headers
    with pytest.raises(APIError) as caught:
        await api.merge(SCALE, {})
    assert (caught.value.status, caught.value.passing, answers.asked) == (429, True, asked)


async def test_a_call_that_is_turned_away_comes_back(api: KubeAPI, answers: Answers) -> None:
    """A 429 with a time is tried again then: it had no effect."""
    answers.status, answers.headers, answers.turned_away = 429, {"Retry-After": "0"}, 3
    assert await api.merge(SCALE, {}) == SECRET
    assert (answers.asked, api.troubles) == (4, 0)


@pytest.mark.parametrize(
    ("path", "at_once"),
    [
        pytest.param("deployments/chat/scale", SCALES_AT_ONCE, id="sizes"),
        pytest.param("deployments/chat", MANIFESTS_AT_ONCE, id="manifests"),
    ],
)
async def test_writes_wait_for_their_turn(api: KubeAPI, answers: Answers, path: str, at_once: int) -> None:
    """A burst of pools goes out at a bounded number at a time, manifests neither with sizes nor before them."""
    await api.get("/version")
    answers.go.clear()
    calls = [asyncio.create_task(api.merge(f"/apis/apps/v1/namespaces/ns/{path}", {})) for _ in range(at_once * 2)]

    async def full() -> bool:
        return answers.now == at_once

    await eventually(full, 5, "all places are taken")
    assert api.busy == (at_once == MANIFESTS_AT_ONCE)
    answers.go.set()
    await asyncio.gather(*calls)
    assert (answers.most, answers.asked) == (at_once, 1 + at_once * 2)
