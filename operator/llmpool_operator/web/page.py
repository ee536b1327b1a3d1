"""The page and its JSON over HTTP: three files of our own, a snapshot, and a stream of what changes. Only reads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from importlib.resources import files

from aiohttp import web
from aiohttp.typedefs import Handler

from llmpool_operator.store import Key

from .access import HEADERS, Access, refusal
from .board import Board, compact
from .schema import Operator

MOST_LISTENERS = 16
EVERY_S = 1.0
SLOW_S = 5.0
"""A listener that doesn't take an event for so long is dropped; it may come back."""
_LONG_ENOUGH = 1.0
"""Seconds that a single snapshot waits for what Redis is only asked when somebody looks."""
_FILES = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/tables.js": ("tables.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_READS = frozenset({"GET", "HEAD"})


@dataclass(slots=True)
class _Listener:
    """How far one has heard."""

    pool: Key | None
    revision: int | None = None
    decisions: int = -1
    detail: str = ""


class Page:
    """What the health server shows beside health. ``operator`` is asked each time."""

    def __init__(
        self, board: Board, operator: Callable[[], Operator], *, access: Access, hosts: Collection[str] = ()
    ) -> None:
        self._board = board
        self._operator = operator
        self._access: Access = access
        self._hosts = hosts
        self._listening = 0
        self._closing = asyncio.Event()

    def add_to(self, app: web.Application) -> None:
        """Add the routes, and the rules that hold for all of them."""
        app.middlewares.append(self._guard)
        app.on_response_prepare.append(_with_headers)
        app.on_shutdown.append(self._close)
        for path, (name, kind) in _FILES.items():
            app.router.add_get(path, _file(name, kind))
        app.router.add_get("/api/v1/state", self._state)
        app.router.add_get("/api/v1/events", self._events)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method not in _READS:
            raise web.HTTPMethodNotAllowed(request.method, _READS)
        if request.path not in ("/healthz", "/metrics"):
            why = refusal(request.headers, request.remote, self._access, self._hosts)
            if why is not None:
                raise web.HTTPForbidden(text=why)
        return await handler(request)

    async def _close(self, _: web.Application) -> None:
        self._closing.set()
        await self._board.letters.close()

    async def _state(self, request: web.Request) -> web.Response:
        listener = _Listener(_pool_of(request))
        if request.method == "HEAD":
            return web.Response(content_type="application/json")
        await self._board.refresh()
        await self._board.first_counts(_LONG_ENOUGH, listener.pool)
        answer = web.Response(text=self._news(listener), content_type="application/json")
        answer.enable_compression()
        return answer

    async def _events(self, request: web.Request) -> web.StreamResponse:
        listener = _Listener(_pool_of(request), self._heard(request))
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        if request.method == "HEAD":
            await answer.prepare(request)
            return answer
        if self._listening >= MOST_LISTENERS or self._closing.is_set():
            text = f"{MOST_LISTENERS} look on already.\n"
            raise web.HTTPServiceUnavailable(text=text, headers={"Retry-After": "10"})
        self._listening += 1
        try:
            await answer.prepare(request)
            await answer.write(b"retry: 2000\n\n")
            await self._tell(request, answer, listener)
        except ConnectionError:
            pass  # gone: nothing is owed to it
        finally:
            self._listening -= 1
        return answer

    async def _tell(self, request: web.Request, answer: web.StreamResponse, listener: _Listener) -> None:
        """One event each second until the listener, or the operator, goes."""
        while not self._closing.is_set():
            await self._board.refresh()
            data = self._news(listener)
            event = f"id: {self._board.boot}:{listener.revision}\ndata: {data}\n\n"
            try:
                async with asyncio.timeout(SLOW_S):
                    await answer.write(event.encode())
            except TimeoutError:
                if request.transport is not None:
                    request.transport.abort()
                return
            await self._pause()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(EVERY_S):
                await self._closing.wait()
        except TimeoutError:
            return

    def _news(self, listener: _Listener) -> str:
        """What a listener hasn't heard yet, as JSON; ``decisions`` and ``pool`` only where they changed.

        Lines are JSON already; they are many, so they aren't made again for each listener.
        """
        news = self._board.since(listener.revision)
        listener.revision = news.revision
        parts = [
            f'"operator":{compact(self._operator())}',
            f'"whole":{compact(news.whole)}',
            f'"pools":[{",".join(news.rows)}]',
            f'"gone":{compact(news.gone)}',
        ]
        past = self._board.past
        if listener.decisions != past.count:
            listener.decisions = past.count
            parts.append(f'"decisions":{compact(past.newest())}')
        if listener.pool is not None:
            detail = compact(self._board.detail(listener.pool))
            if detail != listener.detail:
                listener.detail = detail
                parts.append(f'"pool":{detail}')
        return f"{{{','.join(parts)}}}"

    def _heard(self, request: web.Request) -> int | None:
        """Up to where a listener that comes back has heard already; of another process that says nothing."""
        boot, _, revision = (request.headers.get("Last-Event-ID") or request.query.get("since", "")).partition(":")
        if boot == self._board.boot and revision.isascii() and revision.isdigit() and len(revision) <= 15:
            return int(revision)
        return None


def _pool_of(request: web.Request) -> Key | None:
    """``pool=NAMESPACE/NAME``; None: no pool is looked at closely."""
    given = request.query.get("pool", "")
    namespace, _, name = given.partition("/")
    if not given:
        return None
    if not name or "/" in name:
        raise web.HTTPBadRequest(text="pool: allowed is NAMESPACE/NAME\n")
    return namespace, name


async def _with_headers(_: web.Request, answer: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        answer.headers.setdefault(name, value)


def _file(name: str, kind: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    body = files(__package__).joinpath("static", name).read_bytes()

    async def serve(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type=kind, charset="utf-8")

    return serve
