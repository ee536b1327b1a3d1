"""``/healthz`` and ``/metrics``. Healthy means that the loop turns, not that this server answers."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from .metrics import CONTENT_TYPE, Metrics

STALLED_AFTER = 30.0
"""Seconds without a finished tick after which the process is better started again."""


class HealthServer:
    """A small HTTP server. ``age`` gives the seconds since the loop last finished a tick."""

    def __init__(self, metrics: Metrics, age: Callable[[], float], port: int) -> None:
        self._metrics = metrics
        self._age = age
        self._port = port
        self._runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Listen. Gives the port, for those who asked for any."""
        app = web.Application()
        app.add_routes([web.get("/healthz", self._healthz), web.get("/metrics", self._render)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, port=self._port)
        await site.start()
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        age = self._age()
        healthy = age <= STALLED_AFTER
        body = {"status": "ok" if healthy else "stalled", "last_tick_seconds_ago": round(age, 3)}
        return web.json_response(body, status=200 if healthy else 503)

    async def _render(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE})
