"""The health and metrics server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from .telling.metrics import CONTENT_TYPE

Health = Callable[[], dict[str, Any]]


class HealthServer:
    """``/health``, ``/health/live``, ``/health/ready`` and ``/metrics``.

    Live and ready are answered from this loop: a loop that is stuck answers neither, which is what they are to tell.
    """

    def __init__(self, host: str, port: int, health: Health, metrics: Callable[[], bytes]) -> None:
        self._host, self._port = host, port
        self._health, self._metrics = health, metrics
        self._runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Listen; answers the port. Raises OSError where it is taken."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/health", self._whole),
                web.get("/health/live", self._live),
                web.get("/health/ready", self._ready),
                web.get("/metrics", self._exposition),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def aclose(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _whole(self, _request: web.Request) -> web.Response:
        return web.json_response(self._health())

    async def _live(self, _request: web.Request) -> web.Response:
        return _yes_or_no(self._health()["live"])

    async def _ready(self, _request: web.Request) -> web.Response:
        return _yes_or_no(self._health()["ready"])

    async def _exposition(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics(), headers={"Content-Type": CONTENT_TYPE})


def _yes_or_no(good: bool) -> web.Response:
    return web.json_response({"ok": good}, status=200 if good else 503)
