"""A Prometheus that answers as a test says, and remembers what it was asked."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, Self

from aiohttp import web

from tests.support.waiting import eventually

Answer = Callable[[str], web.StreamResponse]
ASKED_AT = 1_700_000_000.0


def vector(*values: str | tuple[dict[str, str], str]) -> str:
    """An instant vector's answer: each a value, or labels and a value."""
    pairs = [({}, value) if isinstance(value, str) else value for value in values]
    result = [{"metric": labels, "value": [ASKED_AT, value]} for labels, value in pairs]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}})


def scalar(value: str) -> str:
    """A scalar's answer."""
    return json.dumps({"status": "success", "data": {"resultType": "scalar", "result": [ASKED_AT, value]}})


class ScriptedPrometheus:
    """`async with ScriptedPrometheus() as server: server.body = vector("3")`. Listens on 127.0.0.1."""

    def __init__(self) -> None:
        self.body: str | bytes = vector("1")
        self.status = 200
        self.headers: dict[str, str] = {}
        self.asked: list[dict[str, Any]] = []
        self.open = asyncio.Event()
        """Cleared: requests wait until it is set."""
        self.open.set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes([web.get("/{path:.*}", self._answer)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.open.set()
        await self._runner.cleanup()

    async def asked_times(self, count: int) -> None:
        """Wait until so many questions have come."""

        async def probe() -> bool:
            return len(self.asked) >= count

        await eventually(probe, 10, f"{count} questions")

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append({"path": request.path, **request.query})
        await self.open.wait()
        body = self.body if isinstance(self.body, bytes) else self.body.encode()
        return web.Response(body=body, status=self.status, headers=self.headers, content_type="application/json")
