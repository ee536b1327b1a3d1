"""How many requests wait in a model server, from its own metrics: vLLM's and llama.cpp's."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Callable

from .backends.base import BackendError
from .backends.http import HttpServer

INTERVAL_S = 2.0
TIMEOUT_S = 2.0
MAX_BYTES = 4 * 1_048_576
"""Of the metrics' text: vLLM tells some 100 kB."""
_WAITING = re.compile(
    rb"^(?:vllm:num_requests_waiting|llamacpp:requests_deferred)(?:\{.*\})?[ \t]+([^\s]+)", re.MULTILINE
)


def waiting_in(exposition: bytes) -> int | None:
    """The requests that wait, of all of the server's engines together. None: it doesn't say, which is not zero.

    ``exposition``: Prometheus' text format. Requests that wait by reason, and other names that only begin alike, are
    other metrics.
    """
    found = [_number(value) for value in _WAITING.findall(exposition)]
    known = [value for value in found if value is not None]
    return sum(known) if known and len(known) == len(found) else None


def _number(text: bytes) -> int | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if math.isfinite(value) and value >= 0 else None


async def exposition_of(server: HttpServer) -> bytes:
    """GET ``/metrics``. Raises BackendError, also where the server has no such page."""
    async with server.get("/metrics") as response:
        if response.status != 200:
            raise await server.error(response)
        return await server.body(response, MAX_BYTES)


class WaitingPoll:
    """Asks now and then. ``fetch``: GET ``/metrics``; raises BackendError or OSError. ``told`` hears each answer,
    None: there was none."""

    def __init__(self, fetch: Callable[[], Awaitable[bytes]], told: Callable[[int | None], None]) -> None:
        self._fetch, self._told = fetch, told

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.turn()
            await asyncio.sleep(INTERVAL_S)

    async def turn(self) -> None:
        """Ask once."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                exposition = await self._fetch()
        except (BackendError, OSError):  # a timeout is an OSError too
            self._told(None)
            return
        self._told(waiting_in(exposition))
