"""What the HTTP backends share: a client with four separate timeouts, and lines from a byte stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp

from .classify import json_object, status_error
from .errors import BackendError, ErrorKind

MAX_LINE_BYTES = 1_048_576
"""One line of a stream. An embedding's answer is no stream and has a bound of its own."""
MAX_BODY_BYTES = 64 * 1_048_576
MAX_ERROR_BYTES = 8_192
FINISH_S = 0.2
KEEP_ALIVE_S = 4.0
"""Shorter than any server keeps an idle connection (uvicorn, which vLLM runs on: 5 s): one that is being closed while
a request is written to it is a request lost."""


class HttpServer:
    """One model server's base URL and connections. Follows no redirect and no proxy variable.

    Only connecting has a timeout here: waiting for an answer, and between its pieces, is the runner's watchdog, which
    knows the job's own limits too.
    """

    def __init__(self, base_url: str, *, connect_timeout_s: float, connections: int) -> None:
        self._base_url = base_url.rstrip("/")
        self._short_s = connect_timeout_s
        self._connections = connections
        self._open: aiohttp.ClientSession | None = None

    @property
    def _session(self) -> aiohttp.ClientSession:
        """Made at the first request: aiohttp wants a running loop."""
        if self._open is None:
            self._open = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections + 4, keepalive_timeout=KEEP_ALIVE_S),
                headers={"Accept-Encoding": "identity"},  # lines are split from the raw bytes
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._short_s),
                trust_env=False,
            )
        return self._open

    async def aclose(self) -> None:
        """Close every connection."""
        if self._open is not None:
            await self._open.close()

    def post(self, path: str, body: dict[str, Any]) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """An answer whose headers have come. Raises BackendError for what the transport did."""
        return self._request("POST", path, body)

    def get(self, path: str) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """The same for a GET."""
        return self._request("GET", path, None)

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, body: dict[str, Any] | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        with _transport_errors(self._base_url):
            asked = self._session.request(method, self._base_url + path, json=body, allow_redirects=False)
            async with asked as response:
                yield response

    async def whole(self, response: aiohttp.ClientResponse) -> dict[str, Any]:
        """The object that an answer with status 200 is. Raises BackendError for any other answer."""
        if response.status != 200:
            raise await self.error(response)
        return json_object(await self.body(response))

    async def lines(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """The answer's lines without their ends, split by us, bounded."""
        rest = bytearray()
        async for chunk in response.content.iter_any():
            if not rest and chunk.endswith(b"\n") and chunk.count(b"\n") == 1:
                yield chunk[:-1]  # what servers send nearly always: a whole line per chunk
                continue
            rest += chunk
            if b"\n" in chunk:
                *whole, rest = rest.split(b"\n")
                for line in whole:
                    yield bytes(line)
            if len(rest) > MAX_LINE_BYTES:
                raise BackendError(ErrorKind.RETRYABLE, "line_too_long", f"a line of more than {MAX_LINE_BYTES} bytes")
        if rest.strip():
            yield bytes(rest)

    async def body(self, response: aiohttp.ClientResponse, limit: int = MAX_BODY_BYTES) -> bytes:
        """The whole answer, up to ``limit`` bytes. Raises BackendError beyond."""
        data = bytearray()
        async for chunk in response.content.iter_any():
            data += chunk
            if len(data) > limit:
                raise BackendError(ErrorKind.RETRYABLE, "answer_too_large", f"an answer of more than {limit} bytes")
        return bytes(data)

    async def finish(self, response: aiohttp.ClientResponse) -> None:
        """Read what is left of an answer that is whole: a connection that isn't read to its end can't be used again."""
        try:
            async with asyncio.timeout(FINISH_S):
                async for _ in response.content.iter_any():
                    pass
        except TimeoutError:
            return

    async def error(self, response: aiohttp.ClientResponse) -> BackendError:
        """What an answer with another status than 200 means. Only the beginning of its text is read."""
        data = bytearray()
        async for chunk in response.content.iter_any():
            data += chunk
            if len(data) >= MAX_ERROR_BYTES:
                break
        return status_error(response.status, bytes(data[:MAX_ERROR_BYTES]), response.headers.get("Retry-After"))


class _transport_errors:  # noqa: N801 - used as a statement
    """Turns aiohttp's exceptions into ours, by what they mean for the job."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        match error:
            case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
                raise BackendError(
                    ErrorKind.UNAVAILABLE, "backend_unreachable", f"no connection to {self._base_url}"
                ) from None
            case aiohttp.InvalidURL():
                raise BackendError(ErrorKind.PERMANENT, "backend_url", "the base URL can't be used") from None
            case aiohttp.ServerTimeoutError():
                raise BackendError(ErrorKind.RETRYABLE, "backend_stalled", "no answer in time") from None
            case aiohttp.ClientError() | OSError():
                raise BackendError(ErrorKind.RETRYABLE, "backend_broke", type(error).__name__) from None
