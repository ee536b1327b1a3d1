"""Pushing a batch, chunk by chunk. Redis counts how far it got: who submits the same file again goes on there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from llmpool_client.connection import Connections
from llmpool_contract import QueueKeys

from .entries import Entry, entry_of
from .errors import OtherBatch
from .file import BatchFile
from .record import Batch, batch_id_of, read_batch
from .scripts import CREATE, PUSH
from .survey import lapsed
from .terms import Terms

CHUNK_REQUESTS = 200
CHUNK_BYTES = 1_048_576
"""Bounds of one call: Redis serves nobody else while its script runs."""
_CANCELLED = -2

Progress = Callable[[Batch], None]
"""Told the batch as it stands after each chunk."""


class BatchSubmitter:
    """Begins batches and pushes their requests."""

    def __init__(self, connections: Connections) -> None:
        # Only Redis' answers are asked for so: an error of the file or of a caller's progress isn't Redis'.
        self._ask = connections.ask
        self._create = connections.commands.register_script(CREATE)
        self._push = connections.commands.register_script(PUSH)

    async def begin(self, file: BatchFile, terms: Terms) -> Batch:
        """The batch's record: a new one, or that of an earlier submit of the same file.

        Raises:
            OtherBatch: the id belongs to another file's batch.
        """
        keys = terms.queue_for(file)
        batch_id = terms.batch_id if terms.batch_id is not None else batch_id_of(file.digest, keys.queue)
        arguments: list[str | int] = [batch_id, int(terms.window_s * 1_000), int(terms.keep_s * 1_000)]
        for name, value in terms.fields(file).items():
            arguments += [name, value]
        raw = await self._ask(self._create(keys=[keys.batches, keys.batch(batch_id)], args=arguments))
        batch = read_batch(dict(zip(raw[::2], raw[1::2], strict=True)), keys.batch(batch_id))
        if batch.digest != file.digest:
            raise OtherBatch(f"batch {batch.id}: submitted from another file, {batch.name}; give this one another id")
        return batch

    async def push(self, batch: Batch, file: BatchFile, progress: Progress | None = None) -> Batch:
        """Push what isn't pushed yet; returns the batch as it stands then, which is not whole where it was cancelled.

        Raises:
            BadBatch: the file has changed meanwhile.
            UnknownBatch: the record has lapsed meanwhile.
        """
        chunks = _chunks(batch, file)
        # Reading, checking and encoding a chunk takes tens of milliseconds: not in the loop that others wait in.
        while chunk := await asyncio.to_thread(next, chunks, None):
            answer = await self._deliver(batch, *chunk)
            if answer == _CANCELLED:
                break
            batch = replace(batch, submitted=answer)
            if progress is not None:
                progress(batch)
        return batch

    async def _deliver(self, batch: Batch, place: int, entries: list[Entry]) -> int:
        """Push what of a chunk isn't pushed yet: somebody else may submit the same file, and be ahead."""
        end = place + len(entries)
        if end <= batch.submitted:
            return batch.submitted
        while (answer := await self._send(batch, place, entries)) < end:
            if answer == _CANCELLED:
                break
            if answer < place:  # gone, or begun anew under our feet
                raise lapsed(batch)
            entries, place = entries[answer - place :], answer
        return answer

    async def _send(self, batch: Batch, place: int, entries: list[Entry]) -> int:
        keys = QueueKeys(batch.queue)
        names = [keys.list_of(batch.priority), keys.stats, keys.batch(batch.id)]
        names += [keys.batch_ids(batch.id), keys.batch_faults(batch.id)]
        arguments: list[str | int | bytes] = [place, batch.expires_ms]
        for entry in entries:
            names += [keys.result(entry.job_id), keys.id(entry.job_id)]
            arguments += entry.arguments()
        return int(await self._ask(self._push(keys=names, args=arguments)))


def _chunks(batch: Batch, file: BatchFile) -> Iterator[tuple[int, list[Entry]]]:
    """What isn't submitted yet, within the bounds of one call, with the number of requests before it."""
    place, size = batch.submitted, 0
    chunk: list[Entry] = []
    for request in file.requests(batch.submitted):
        entry = entry_of(batch, request, time.time())
        if chunk and (len(chunk) == CHUNK_REQUESTS or size + entry.size > CHUNK_BYTES):
            yield place, chunk
            place, chunk, size = place + len(chunk), [], 0
        chunk.append(entry)
        size += entry.size
    if chunk:
        yield place, chunk
