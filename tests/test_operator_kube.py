"""Calls to an API server that is odd, and the Secrets that are read from it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from llmpool_operator.credentials import Credentials
from llmpool_operator.decide.types import Missing
from llmpool_operator.kube import APIError, KubeAPI
from llmpool_operator.observe import Endpoint

SECRET = {
    "metadata": {"name": "auth", "labels": {"llmpool.dev/redis": "true"}},
    "data": {"password": "/wA="},
}
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
        self.status, self.body = 200, SECRET
        self.asked = 0

    async def __call__(self, _: web.Request) -> web.Response:
        self.asked += 1
        return web.json_response(self.body, status=self.status)


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

    assert await found() == KNOWN
    answers.status, clock.now = 503, 61
    assert (await found(), answers.asked) == (KNOWN, 2)
    clock.now = 72
    assert (await found(), answers.asked) == (KNOWN, 3)
    answers.status, clock.now = 404, 83
    assert await found() == Missing("SecretNotFound: auth")
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
