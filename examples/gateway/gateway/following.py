"""One streamed answer: from the job's events to server-sent events, with signs of life in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from llmpool_client import Client, ClientError, End, JobRef, Reset, Result, Status, StreamEvent, Text, Thinking

from .errors import GatewayError, of_exception, of_result
from .mapping import Chunks, sse

KEEPALIVE = b": still waiting\n\n"


class Closed(Protocol):
    """What is to be done when a stream is over; ``ended``: its reader had it to the end."""

    def __call__(self, *, ended: bool) -> None: ...


class Stream(StreamingResponse):
    """The response around :func:`follow`. It says that it is over even where its reader left before the first byte."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], job: str, closed: Closed) -> None:
        headers = {"x-job-id": job, "cache-control": "no-store", "x-accel-buffering": "no"}
        self._sent = self._whole(pieces)
        super().__init__(self._sent, media_type="text/event-stream", headers=headers)
        self._closed = closed
        self._ended = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._closed(ended=self._ended)
            await self._sent.aclose()

    async def _whole(self, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece
        self._ended = True


async def follow(
    client: Client,
    ref: JobRef,
    chunks: Chunks,
    *,
    wait_s: float,
    keepalive_s: float,
    usage: bool,
) -> AsyncGenerator[bytes, None]:
    """Yield the stream's bytes. What goes wrong is the last event."""
    events: asyncio.Queue[StreamEvent | ClientError] = asyncio.Queue(maxsize=64)
    # A task of its own: the server cancels us at any await when the reader leaves, and the stream's connection to
    # Redis has to be closed in order nevertheless.
    pump = asyncio.create_task(_pump(client, ref, wait_s, events))
    try:
        async with aclosing(_pieces(events, chunks, keepalive_s, usage=usage)) as pieces:
            async for piece in pieces:
                yield piece
    except GatewayError as error:
        yield sse({"error": error.body})
    finally:
        pump.cancel()


async def _pieces(
    events: asyncio.Queue[StreamEvent | ClientError], chunks: Chunks, keepalive_s: float, *, usage: bool
) -> AsyncGenerator[bytes, None]:
    sent = ""
    for chunk in chunks.first():
        yield sse(chunk)
    while True:
        try:
            event = await asyncio.wait_for(events.get(), keepalive_s)
        except TimeoutError:
            yield KEEPALIVE
            continue
        if isinstance(event, ClientError):
            raise of_exception(event)
        if isinstance(event, Reset):
            _check_nothing_sent(sent)
        for chunk in _chunks_of(event, chunks, sent, usage=usage):
            yield sse(chunk)
        if isinstance(event, Text):
            sent += event.text
        if isinstance(event, End):
            yield b"data: [DONE]\n\n"
            return


def _chunks_of(event: StreamEvent, chunks: Chunks, sent: str, *, usage: bool) -> list[dict[str, Any]]:
    match event:
        case Text(text=text):
            return [chunks.text(text)]
        case Thinking(text=text):
            return chunks.thinking(text)
        case End(result=result):
            return _last_chunks(result, chunks, sent, usage=usage)
    return []


def _last_chunks(result: Result, chunks: Chunks, sent: str, *, usage: bool) -> list[dict[str, Any]]:
    """The result is what counts: what of it wasn't streamed comes now, as the whole does for an answer from a cache."""
    if result.status is not Status.SUCCEEDED:
        raise of_result(result)
    content = result.content or ""
    _check_nothing_sent("" if content.startswith(sent) else sent)
    rest = content[len(sent) :]
    return [*([chunks.text(rest)] if rest else []), *chunks.last(result, usage=usage)]


def _check_nothing_sent(sent: str) -> None:
    """Text that was sent can't be taken back: better an error than an answer patched together from two."""
    if sent:
        raise GatewayError(502, "stream_restarted", "the answer began anew; the whole is at /v1/jobs/{its id}")


async def _pump(client: Client, ref: JobRef, wait_s: float, events: asyncio.Queue[StreamEvent | ClientError]) -> None:
    try:
        async with aclosing(client.stream(ref, timeout=wait_s)) as stream:
            async for event in stream:
                await events.put(event)
    except ClientError as error:
        await events.put(error)
