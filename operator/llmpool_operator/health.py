"""``/healthz``, ``/metrics`` and the page. Healthy means that the work goes on, not that this server answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from .metrics import CONTENT_TYPE, Metrics
from .web.page import Page

STALLED_AFTER = 30.0
"""Seconds without progress after which the process is better started again."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How long ago this process last did what it is there for: a leader a tick, a standby a look at the lease."""

    leading: bool
    age: float
    """Seconds."""


class HealthServer:
    """A small HTTP server. ``progress`` is asked at each request; ``page`` None: there is none."""

    def __init__(self, metrics: Metrics, progress: Callable[[], Progress], port: int, page: Page | None = None) -> None:
        self._metrics = metrics
        self._progress = progress
        self._port = port
        self._page = page
        self._runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Listen. Gives the port, for those who asked for any."""
        app = web.Application()
        app.add_routes([web.get("/healthz", self._healthz), web.get("/metrics", self._render)])
        if self._page is not None:
            self._page.add_to(app)
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
        progress = self._progress()
        healthy = progress.age <= STALLED_AFTER
        what = "last_tick_seconds_ago" if progress.leading else "last_look_at_the_lease_seconds_ago"
        good = "ok" if progress.leading else "standby"
        body = {"status": good if healthy else "stalled", what: round(progress.age, 3)}
        return web.json_response(body, status=200 if healthy else 503)

    async def _render(self, _: web.Request) -> web.Response:
        body = await asyncio.to_thread(self._metrics.render)  # with thousands of pools the loop would stand still
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})
