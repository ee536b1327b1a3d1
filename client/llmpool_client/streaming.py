"""An answer as it comes: the entries of ``{q}:stream:<id>`` as typed events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from redis.asyncio import Redis

from llmpool_contract import QueueKeys, Result

from .errors import UnreadableReply
from .waiting import Deadline, fetch_result, patiently

BLOCK_S = 1.0
"""How long one read waits for text before the result key is looked at: the job may end without having streamed."""
AFTER_END_S = 0.05
"""The same once the stream said ``end``: the result is due in the next moment."""
ENTRIES = 256


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer."""

    text: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Thinking:
    """A piece of the model's reasoning."""

    text: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Reset:
    """A new attempt begins: the text of earlier ones is void."""

    attempt: int


@dataclass(frozen=True, slots=True)
class End:
    """The job's end; always the last event."""

    result: Result


StreamEvent = Text | Thinking | Reset | End


async def stream_events(
    redis: Redis, reader: Redis, keys: QueueKeys, job_id: str, timeout_s: float | None
) -> AsyncIterator[StreamEvent]:
    """Yield the events from the stream's beginning to :class:`End`. ``reader`` is a connection that nobody else uses.

    A job that streams nothing (``stream`` off, or ended before it ran) yields End alone.

    Raises:
        ResultTimeout: ``timeout_s`` after the first event was asked for.
    """
    deadline = Deadline(job_id, timeout_s)
    tail = _Tail(reader, keys.stream(job_id))
    result, ended = await fetch_result(redis, keys, job_id), False
    while result is None:
        block_s = deadline.left(AFTER_END_S if ended else BLOCK_S)
        entries = await patiently(partial(tail.read, block_s), deadline)
        for fields in entries:
            ended = fields.get(b"kind") == b"end"
            if event := _event(fields):
                yield event
        if ended or not entries:
            result = await patiently(partial(fetch_result, redis, keys, job_id), deadline)
        if result is None:
            deadline.check()
    # What is in the stream by the time the result is there is all there will ever be.
    while entries := await patiently(tail.read, deadline):
        for fields in entries:
            if event := _event(fields):
                yield event
    yield End(result)


class _Tail:
    """A place in a stream. Reading takes nothing away, so a read whose answer was lost is simply done again."""

    def __init__(self, reader: Redis, key: str) -> None:
        self._reader = reader
        self._key = key
        self._last = b"0"

    async def read(self, block_s: float | None = None) -> list[dict[bytes, bytes]]:
        """The entries after the last one read; where there are none, wait for some up to ``block_s``."""
        block_ms = None if block_s is None else max(1, int(block_s * 1_000))  # BLOCK 0 would mean for ever
        found: Any = await self._reader.xread({self._key: self._last}, count=ENTRIES, block=block_ms)
        if not found:
            return []
        _, entries = found[0]
        self._last = entries[-1][0]
        return [fields for _, fields in entries]


def _event(fields: dict[bytes, bytes]) -> Text | Thinking | Reset | None:
    """One entry; None for a kind that a newer worker may have."""
    try:
        attempt = int(fields.get(b"attempt", b"1"))
    except ValueError:
        raise UnreadableReply("stream: attempt is not a number") from None
    match fields.get(b"kind"):
        case b"text":
            return Text(fields.get(b"text", b"").decode("utf-8", "replace"), attempt)
        case b"thinking":
            return Thinking(fields.get(b"text", b"").decode("utf-8", "replace"), attempt)
        case b"reset":
            return Reset(attempt)
    return None
