"""What the HTTP backends share: a client with four separate timeouts, and lines from a byte stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from .base import BackendError, ErrorKind

MAX_LINE_BYTES = 1_048_576
"""One line of a stream. An embedding's answer is no stream and has a bound of its own."""
MAX_BODY_BYTES = 64 * 1_048_576
MAX_ERROR_BYTES = 8_192
FINISH_S = 0.2
MAX_RETRY_AFTER_S = 60.0


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
                connector=aiohttp.TCPConnector(limit=self._connections + 4),
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

    @asynccontextmanager
    async def post(self, path: str, body: dict[str, Any]) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer whose headers have come. Raises BackendError for what the transport did."""
        with _transport_errors(self._base_url):
            async with self._session.post(self._base_url + path, json=body, allow_redirects=False) as response:
                yield response

    async def lines(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """The answer's lines without their ends, split by us, bounded."""
        rest = bytearray()
        async for chunk in response.content.iter_any():
            if not rest and chunk.endswith(b"\n") and chunk.count(b"\n") == 1:
                yield chunk[:-1]  # what servers send nearly always: a whole line per chunk
                continue
            rest += chunk
            *whole, tail = rest.split(b"\n")
            rest = bytearray(tail)
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


def json_object(raw: bytes) -> dict[str, Any]:
    """What a server sent, as an object. Raises BackendError."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise BackendError(ErrorKind.RETRYABLE, "backend_not_json", "the server's answer is not JSON") from None
    if not isinstance(value, dict):
        raise BackendError(ErrorKind.RETRYABLE, "backend_not_json", "the server's answer is not a JSON object")
    return value


def error_text(answer: dict[str, Any]) -> str | None:
    """The server's own words, whichever of the two usual shapes they come in."""
    error = answer.get("error")
    if isinstance(error, dict):
        error = error.get("message")
    return str(error) if error else None


def status_error(status: int, body: bytes, retry_after: str | None = None) -> BackendError:
    """What an HTTP status other than 200 means for the job.

    404 in the server's own words: no such model; without them it is of something in between, and may pass. 503 and 429:
    full, or still loading; nothing was asked. 408 and 499 are time-outs, and 5xx failures, all worth another attempt.
    The rest, redirects too, won't change by asking again.
    """
    try:
        said = error_text(json_object(body))
    except BackendError:
        said = None
    reason = f"HTTP {status} from the model server"
    match status:
        case 404 if said is not None:
            return BackendError(ErrorKind.PERMANENT, "model_not_found", "the model server has no such model", said=said)
        case 503 | 429:
            wait_s = seconds_of(retry_after)
            return BackendError(ErrorKind.UNAVAILABLE, "backend_busy", reason, said=said, retry_after_s=wait_s)
        case _ if 300 <= status < 500 and status not in (404, 408, 499):
            return BackendError(ErrorKind.PERMANENT, "refused", reason, said=said)
    return BackendError(ErrorKind.RETRYABLE, "backend_failed", reason, said=said)


def stream_error(line: dict[str, Any]) -> BackendError:
    """An error in the middle of an answer."""
    return BackendError(ErrorKind.RETRYABLE, "backend_failed", "an error in the answer's stream", said=error_text(line))


def seconds_of(retry_after: str | None) -> float | None:
    """A Retry-After header, at most :data:`MAX_RETRY_AFTER_S`. None: there is none, or a date, which needs a clock."""
    if retry_after is None or not retry_after.isdecimal():
        return None
    return min(float(retry_after), MAX_RETRY_AFTER_S)


def incomplete() -> BackendError:
    """A stream that just ended. Never taken for an answer."""
    return BackendError(
        ErrorKind.RETRYABLE, "incomplete", "the answer ended without the server's word that it is whole"
    )


def vectors_missing(wanted: int) -> BackendError:
    """Fewer vectors than inputs."""
    return BackendError(ErrorKind.RETRYABLE, "incomplete", f"vectors for {wanted} inputs did not all come")


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
