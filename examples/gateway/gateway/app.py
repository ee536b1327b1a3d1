"""The HTTP edge. Start it with ``uvicorn --factory gateway.app:create``."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from llmpool_client import BadJob, BadName, Client, ClientError, JobRef, JobStatus, Result, Status

from .errors import GatewayError, of_exception, of_result
from .following import Stream, follow
from .mapping import ENDPOINTS, QUEUES, Asked, Chunks, answer_of, asked_of, job_id, kind_of_job
from .settings import Settings


def create() -> FastAPI:
    """The service by the environment's settings."""
    return build(Settings.from_env(os.environ))


def build(settings: Settings) -> FastAPI:
    """The service; it connects to Redis on first use."""
    gateway = Gateway(settings)

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await gateway.aclose()

    app = FastAPI(title="LLM gateway", lifespan=life, docs_url=None, redoc_url=None, openapi_url=None)
    for kind, path in ENDPOINTS.items():
        app.add_api_route(path, gateway.endpoint(kind), methods=["POST"], response_model=None)
    app.add_api_route("/v1/models", gateway.models, methods=["GET"], response_model=None)
    app.add_api_route("/v1/jobs/{job}", gateway.job, methods=["GET", "DELETE"], response_model=None)
    app.add_api_route("/healthz", gateway.health, methods=["GET"], response_model=None)
    for expected in (GatewayError, ClientError, BadJob, BadName, HTTPException):
        app.add_exception_handler(expected, _answer_error)
    return app


class Gateway:
    """The handlers, and what they share: one client and its connections."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = Client(settings.redis_url, max_queued=settings.max_queued)
        self._streams = 0
        self._cancels: set[asyncio.Task[Any]] = set()

    async def aclose(self) -> None:
        """Send the last wishes to cancel, and close the connections."""
        await asyncio.gather(*self._cancels, return_exceptions=True)
        await self._client.aclose()

    async def health(self) -> Response:
        """Ready when Redis answers."""
        await self._client.now_ms()
        return JSONResponse({"status": "ok"})

    async def models(self, request: Request) -> Response:
        """The models that are offered."""
        self._tenant(request)
        rows = [{"id": name, "object": "model", "created": 0, "owned_by": "llmpool"} for name in self._settings.models]
        return JSONResponse({"object": "list", "data": rows})

    async def job(self, request: Request) -> Response:
        """GET: the answer of an earlier request, or 202 and where it stands. DELETE: cancel it."""
        given, tenant = request.path_params["job"], self._tenant(request)
        kind = kind_of_job(given, tenant)
        if kind is None:
            raise GatewayError(404, "job_not_found", "no job of yours has this id")
        ref = JobRef(given, QUEUES[kind], duplicate=False)
        status = await (self._client.cancel(ref) if request.method == "DELETE" else self._client.status(ref))
        if status is JobStatus.UNKNOWN:
            raise GatewayError(404, "job_not_found", "no job of yours has this id, or its result's time is over")
        if request.method == "DELETE" or not status.is_end:
            return JSONResponse({"id": given, "object": "job", "status": str(status)}, status_code=202)
        return _answer(kind, await self._client.result(ref, timeout=0), in_base64=False)

    def endpoint(self, kind: str) -> Any:
        """The handler of one of OpenAI's endpoints."""

        async def handle(request: Request) -> Response:
            return await self._handle(kind, request)

        return handle

    async def _handle(self, kind: str, request: Request) -> Response:
        tenant = self._tenant(request)
        raw = await self._body(request)
        asked = asked_of(kind, _object(raw), tenant)
        self._check(asked)
        wait_s = _seconds(request.headers, "x-job-wait", self._settings.wait_s) or self._settings.wait_s
        key = request.headers.get("idempotency-key") or None
        asked.job["id"] = job_id(kind, tenant, raw, key, secrets.token_hex(16))
        # Who named the request means to come back for it, and another one may wait for the same job.
        kept = key is not None
        if asked.stream:
            return await self._stream(kind, asked, request, wait_s, kept=kept)
        wanted = _Wanted(self, await self._submit(asked, request), kept=kept)
        result = await self._result(request, wanted, wait_s)
        return _answer(kind, result, in_base64=asked.base64)

    async def _submit(self, asked: Asked, request: Request) -> JobRef:
        if deadline_s := _seconds(request.headers, "x-job-deadline", 86_400):
            asked.job["deadline"] = await self._client.now_ms() + int(deadline_s * 1_000)
        return await self._client.submit(asked.job, priority=request.headers.get("x-job-priority", "normal"))  # type: ignore[arg-type] # the client checks it

    def _tenant(self, request: Request) -> str:
        tenant = self._settings.tenant_of(request.headers.get("authorization"))
        if tenant is None:
            raise GatewayError(401, "invalid_api_key", "the Authorization header has no key that is known here")
        return tenant

    async def _body(self, request: Request) -> bytes:
        raw = b""
        async for piece in request.stream():
            raw += piece
            if len(raw) > self._settings.max_body_bytes:
                raise GatewayError(413, "too_large", f"body: more than {self._settings.max_body_bytes} bytes")
        return raw

    def _check(self, asked: Asked) -> None:
        offered = self._settings.models
        if offered and asked.job["model"] not in offered:
            raise GatewayError(404, "model_not_found", f"model: offered are {', '.join(offered)}", param="model")

    async def _stream(self, kind: str, asked: Asked, request: Request, wait_s: float, *, kept: bool) -> Response:
        if self._streams >= self._settings.max_streams:
            raise GatewayError(429, "too_many_streams", "too many streams at once; try again", retry_after_s=1)
        self._streams += 1  # before the first await, or a burst would pass the limit together
        try:
            ref = await self._submit(asked, request)
        except BaseException:
            self._streams -= 1
            raise
        wanted = _Wanted(self, ref, kept=kept)
        chunks = Chunks(kind, ref.id, asked.job["model"], int(time.time()))
        keepalive_s = self._settings.keepalive_s
        pieces = follow(self._client, ref, chunks, wait_s=wait_s, keepalive_s=keepalive_s, usage=asked.usage)

        def closed(*, ended: bool) -> None:
            self._streams -= 1
            if not ended:
                wanted.left()

        return Stream(pieces, ref.id, closed)

    async def _result(self, request: Request, wanted: _Wanted, wait_s: float) -> Result:
        """The result, unless the caller hangs up first: then nobody wants it."""
        answer = asyncio.create_task(self._client.result(wanted.ref, timeout=wait_s))
        gone = asyncio.create_task(_hung_up(request))
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            wanted.left()
            raise GatewayError(499, "cancelled", "the caller is gone", job_id=wanted.ref.id)
        finally:
            answer.cancel()
            gone.cancel()

    def cancel_soon(self, ref: JobRef) -> None:
        """Wish a job cancelled, from a place that may not wait."""
        task = asyncio.create_task(self._client.cancel(ref))
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)


class _Wanted:
    """A submitted job and whether it goes on without its caller."""

    def __init__(self, gateway: Gateway, ref: JobRef, *, kept: bool) -> None:
        self.ref = ref
        self._gateway = gateway
        self._kept = kept

    def left(self) -> None:
        """The caller has gone."""
        if not self._kept:
            self._gateway.cancel_soon(self.ref)


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _answer(kind: str, result: Result, *, in_base64: bool) -> Response:
    if result.status is not Status.SUCCEEDED:
        raise of_result(result)
    return JSONResponse(answer_of(kind, result, int(time.time()), in_base64=in_base64), headers={"x-job-id": result.id})


async def _answer_error(_request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):  # the framework's own: no such path, no such method
        error = GatewayError(error.status_code, "not_found", str(error.detail))
    known = of_exception(error)
    return JSONResponse({"error": known.body}, status_code=known.status, headers=known.headers)


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise GatewayError(400, "invalid_json", "body: not JSON") from None
    if not isinstance(body, dict):
        raise GatewayError(400, "invalid_json", "body: wanted an object")
    return body


def _seconds(headers: Mapping[str, str], name: str, most: float) -> float | None:
    if name not in headers:
        return None
    try:
        value = float(headers[name])
    except ValueError:
        value = float("nan")
    if not 0 < value <= most:
        raise GatewayError(400, "invalid_value", f"{name}: wanted seconds above 0, at most {most:g}", param=name)
    return value
