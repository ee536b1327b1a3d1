"""A reverse proxy before a real API server that goes wrong on demand: late, silent, refusing, cut, or answering nothing
after the work was done.

It speaks plain HTTP to the operator and passes its credentials on, so what is allowed is still the server's to say.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
import yaml
from aiohttp import web

from tests.support.processes import free_port

WRITES = frozenset({"create", "patch", "update", "delete"})
_HOP = frozenset({"host", "connection", "transfer-encoding", "content-length", "content-encoding", "keep-alive"})


@dataclass(frozen=True)
class Call:
    """One request as RBAC would see it."""

    verb: str
    resource: str
    """Plural, with the subresource: `deployments/scale`."""
    name: str
    path: str
    body: bytes = b""

    @property
    def write(self) -> bool:
        return self.verb in WRITES

    @classmethod
    def of(cls, request: web.Request, body: bytes) -> Call:
        """/api/v1/… and /apis/GROUP/VERSION/…, with or without a namespace; discovery is resource ''."""
        parts = request.path.strip("/").split("/")
        rest = parts[2:] if parts[0] == "api" else parts[3:]
        if rest[:1] == ["namespaces"] and len(rest) > 2:
            rest = rest[2:]
        resource, name, sub = [*rest, "", "", ""][:3]
        verb = _verb(request, named=bool(name))
        return cls(verb, f"{resource}/{sub}" if sub else resource, name, request.path, body)


def _verb(request: web.Request, *, named: bool) -> str:
    if request.method == "GET":
        return "get" if named else ("watch" if request.query.get("watch") in ("true", "1") else "list")
    return {"POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}[request.method]


@dataclass
class Fault:
    """What happens to calls of a verb on a resource; empty: any. `times`: how often, None: until it is taken away."""

    verb: str = ""
    resource: str = ""
    status: int = 0
    """The answer in place of the server's."""
    reason: str = ""
    retry_after: int | None = None
    delay: float = 0.0
    """Seconds before the call is passed on."""
    silent: bool = False
    """A watch says nothing more; any other call is never answered."""
    gone: bool = False
    """A watch ends with an ERROR event that says 410."""
    lost: bool = False
    """The server does it, and the connection breaks before the answer."""
    times: int | None = None
    hits: int = field(default=0)

    def fits(self, call: Call) -> bool:
        if self.times is not None and self.hits >= self.times:
            return False
        return self.verb in ("", call.verb) and self.resource in ("", call.resource) and call.resource != ""


@dataclass(frozen=True)
class Done:
    """A call that the server answered."""

    call: Call
    status: int


class APIFaults:
    """`async with APIFaults(kubeconfig, folder) as api:` gives `api.kubeconfig`, of the proxy."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self._server = cluster["server"]
        self._tls = ssl.create_default_context(cafile=cluster.get("certificate-authority"))
        self.port = free_port()
        config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{self.port}"}
        self.kubeconfig = folder / "faults.kubeconfig"
        self.kubeconfig.write_text(json.dumps(config))
        self.faults: list[Fault] = []
        self.done: list[Done] = []
        self.after_write: Callable[[int, Call], None] | None = None
        """Told the number (from 1) of each write that changed something, before its answer goes on; not of leases."""
        self.written = 0
        self._versions: dict[str, str] = {}
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._session: aiohttp.ClientSession | None = None
        self._transports: set[asyncio.Transport] = set()
        self._watches: set[asyncio.Transport] = set()
        self._passing: set[asyncio.Task[web.Response]] = set()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None))
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await self.open()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.shut()
        assert self._runner is not None
        assert self._session is not None
        await self._runner.cleanup()
        await asyncio.gather(*self._passing, return_exceptions=True)
        await self._session.close()

    async def open(self) -> None:
        """Accept connections."""
        assert self._runner is not None
        self._site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await self._site.start()

    async def shut(self) -> None:
        """Break every connection and accept none."""
        if self._site is not None:
            await self._site.stop()
            self._site = None
        self.cut()

    def cut(self) -> None:
        """Break every connection, once."""
        for transport in list(self._transports):
            transport.abort()

    def cut_watches(self) -> None:
        """Break the watches, once."""
        for transport in list(self._watches):
            transport.abort()

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """Nobody there, for as long as this lasts."""
        await self.shut()
        try:
            yield
        finally:
            await self.open()

    @contextmanager
    def fault(self, verb: str = "", resource: str = "", **what: Any) -> Iterator[Fault]:
        """A fault for as long as this lasts."""
        made = Fault(verb, resource, **what)
        self.faults.append(made)
        try:
            yield made
        finally:
            self.faults.remove(made)

    def writes(self, resource: str = "") -> list[Done]:
        """The writes that the server did, of one resource or of all; leases are left out unless asked for."""
        wanted = {resource} if resource else {done.call.resource for done in self.done} - {"leases"}
        return [done for done in self.done if done.call.write and done.call.resource in wanted]

    def _fault_for(self, call: Call) -> Fault:
        return next((fault for fault in self.faults if fault.fits(call)), Fault())

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        self._transports.add(transport)
        call = Call.of(request, await request.read())
        fault = self._fault_for(call)
        fault.hits += 1
        try:
            await asyncio.sleep(fault.delay)
            if fault.silent and call.verb != "watch":
                await asyncio.Event().wait()
            if fault.status:
                return _refusal(call, fault)
            if fault.gone and call.verb == "watch":
                return _gone()
            if call.verb == "watch":
                return await self._watch(request, call, transport)
            # Shielded: what the server does for an operator that has just died is known here all the same.
            task = asyncio.create_task(self._pass_on(request, call, fault, transport))
            self._passing.add(task)
            task.add_done_callback(self._passing.discard)
            return await asyncio.shield(task)
        finally:
            if transport.is_closing():
                self._transports.discard(transport)

    def _asked(self, request: web.Request, call: Call) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        assert self._session is not None
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _HOP}
        headers["Accept-Encoding"] = "identity"
        url = f"{self._server}{request.raw_path}"
        return self._session.request(request.method, url, headers=headers, data=call.body, ssl=self._tls)

    async def _watch(self, request: web.Request, call: Call, transport: asyncio.Transport) -> web.StreamResponse:
        async with self._asked(request, call) as there:
            if there.status == 200:
                return await self._relay(request, call, there, transport)
            return web.Response(body=await there.read(), status=there.status, content_type=there.content_type)

    async def _pass_on(
        self, request: web.Request, call: Call, fault: Fault, transport: asyncio.Transport
    ) -> web.Response:
        async with self._asked(request, call) as there:
            text = await there.read()
            self.done.append(Done(call, there.status))
            if call.write and there.status < 300:
                self._wrote(call, json.loads(text)["metadata"])
            if fault.lost:
                transport.abort()
            return web.Response(body=text, status=there.status, content_type=there.content_type)

    def _wrote(self, call: Call, metadata: dict[str, Any]) -> None:
        """An apply of what is there already changes nothing: its resource version stays."""
        uid, version = metadata["uid"], metadata["resourceVersion"]
        if call.resource == "leases" or self._versions.get(uid) == version:
            return
        self._versions[uid] = version
        self.written += 1
        if self.after_write is not None:
            self.after_write(self.written, call)

    async def _relay(
        self, request: web.Request, call: Call, there: aiohttp.ClientResponse, transport: asyncio.Transport
    ) -> web.StreamResponse:
        """A watch; what it says while it is silent is lost."""
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        self._watches.add(transport)
        try:
            async for chunk in there.content.iter_any():
                if not self._fault_for(call).silent:
                    await answer.write(chunk)
            await answer.write_eof()
        except (aiohttp.ClientError, OSError):
            transport.abort()  # either side is gone, so the other goes too
        finally:
            self._watches.discard(transport)
        return answer


def _refusal(call: Call, fault: Fault) -> web.Response:
    reasons = {403: "Forbidden", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}
    reason = fault.reason or reasons.get(fault.status, "Unknown")
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": fault.status,
        "reason": reason,
        "message": f"scripted: {call.verb} {call.resource}",
    }
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    return web.json_response(body, status=fault.status, headers=headers)


def _gone() -> web.Response:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired"}
    event = {"type": "ERROR", "object": {**status, "message": "too old resource version"}}
    return web.json_response(event)
