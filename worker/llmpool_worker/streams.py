"""Answers as they come: pieces of all jobs are gathered for a moment and sent together."""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis
from redis.exceptions import RedisError

from .held import HeldJob, Stop
from .queue.store import QueueStore
from .queue.types import StreamChunk
from .telling.troubles import Failed

GATHER_S = 0.02
"""How long pieces wait for company, seconds: below what an eye sees, and a fifth of the calls at 100 tokens/s."""


class StreamWriter:
    """One job's stream. Pieces of one kind that wait together become one."""

    def __init__(self, streams: Streams, held: HeldJob) -> None:
        self._streams, self.held = streams, held
        self._pieces: list[tuple[str, str]] = [("reset", "")]
        self._sent = 0
        self.flushed = asyncio.Event()

    def add(self, kind: str, text: str) -> None:
        """Queue a piece of the answer."""
        if self._pieces and self._pieces[-1][0] == kind:
            self._pieces[-1] = (kind, self._pieces[-1][1] + text)
        else:
            self._pieces.append((kind, text))
        self._streams.mark(self)

    def take(self) -> StreamChunk:
        """What is waiting, numbered."""
        pieces, self._pieces = self._pieces, []
        chunk = StreamChunk(self.held.claim, self.held.job_id, self._sent, pieces)
        self._sent += len(pieces)
        return chunk

    async def finish(self) -> None:
        """Wait until all of it is in Redis, or will never be."""
        self.flushed.clear()
        self._streams.mark(self)
        await self.flushed.wait()


class Streams:
    """Sends all writers' pieces from one task."""

    def __init__(self, redis: Redis, store: QueueStore, failed: Failed) -> None:
        self._redis, self._store, self._failed = redis, store, failed
        self._marked: dict[StreamWriter, None] = {}
        self._wake = asyncio.Event()

    def open(self, held: HeldJob) -> StreamWriter:
        """A new attempt's stream. Begins with ``reset``: what an earlier attempt said is void."""
        return StreamWriter(self, held)

    def mark(self, writer: StreamWriter) -> None:
        """This writer has something to send."""
        self._marked[writer] = None
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wake.wait()
            await self.turn()
            await asyncio.sleep(GATHER_S)

    async def turn(self) -> None:
        """Send what is waiting now."""
        self._wake.clear()
        marked, self._marked = self._marked, {}
        for writer in marked:
            chunk = writer.take()
            if chunk.pieces and not await self._send(chunk):
                writer.held.stop_for(Stop.LOST)
            if writer not in self._marked:  # nothing was added while the call was under way
                writer.flushed.set()

    async def _send(self, chunk: StreamChunk) -> bool:
        """False: the job isn't ours any more. A stream that can't be written costs no job: the result has it all."""
        try:
            return await self._store.append(self._redis, chunk)
        except (RedisError, OSError) as error:
            self._failed(error)
            return True
