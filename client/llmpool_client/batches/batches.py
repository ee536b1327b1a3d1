"""A client's batches: files in OpenAI's format, run as jobs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any

from llmpool_client.connection import Connections
from llmpool_client.errors import redis_errors
from llmpool_client.waiting import Deadline, patiently
from llmpool_contract import Priority, QueueKeys
from llmpool_contract.keys import DEFAULT_QUEUES

from .counts import BatchStatus
from .errors import BatchTimeout, UnknownBatch
from .file import BatchFile, examine
from .outcomes import Outcome, outcomes
from .record import KEEP_S, WINDOW_S, Batch, checked_id
from .scripts import CANCEL, STOP
from .submitting import BatchSubmitter, Progress
from .survey import Survey, Watcher, lapsed, read_record
from .terms import Terms

_SHORTEST_PAUSE_S = 1.0
_PAUSE_PER_REQUEST_S = 0.0001


class Batches:
    """Submit, watch, cancel and collect batches. Each call may raise QueueUnavailable and QueueRefused.

    Where a call takes a batch, it takes the :class:`Batch` of another call, or an id and its ``queue``; without a
    queue the id is looked for in the default ones. UnknownBatch: it isn't there, or its record has lapsed.
    """

    def __init__(self, connections: Connections) -> None:
        self._ask = connections.ask
        self._address = connections.address
        self._redis = connections.commands
        self._submitter = BatchSubmitter(connections)
        self._stop = self._redis.register_script(STOP)
        self._cancel = self._redis.register_script(CANCEL)

    async def submit(
        self,
        file: str | os.PathLike[str] | BatchFile,
        *,
        batch_id: str | None = None,
        name: str | None = None,
        queue: str | None = None,
        priority: Priority = "low",
        window_s: float = WINDOW_S,
        keep_s: float = KEEP_S,
        progress: Progress | None = None,
    ) -> Batch:
        """Submit a file of requests, or go on with a submit of it that was interrupted.

        Without ``batch_id`` the id follows from file and queue, so that the same file again is the same batch: what is
        pushed already isn't pushed again, and a batch that is whole stays as it is. ``window_s`` from the first submit
        on the requests expire. The record lives ``keep_s`` longer: RESULT_TTL of the workers, or more. Where the batch
        was cancelled, the answer isn't ``whole``.

        Raises:
            BadBatch: nothing of the file was sent.
            OtherBatch: ``batch_id`` belongs to another file.
            OSError: the file can't be read.
        """
        terms = Terms(batch_id, name, queue, priority, window_s, keep_s)
        examined = file if isinstance(file, BatchFile) else await asyncio.to_thread(examine, file)
        batch = await self._submitter.begin(examined, terms)
        if progress is not None:
            progress(batch)
        return await self._submitter.push(batch, examined, progress)

    async def get(self, batch: Batch | str, *, queue: str | None = None) -> Batch:
        """The record as it is now."""
        batch_id, queue = (batch.id, batch.queue) if isinstance(batch, Batch) else (checked_id(batch), queue)
        names = tuple(DEFAULT_QUEUES) if queue is None else (queue,)
        for keys in map(QueueKeys, names):
            found = await self._ask(read_record(self._redis, keys, batch_id))
            if found is not None:
                return found
        raise UnknownBatch(f"batch {batch_id}: not known in {', '.join(names)}")

    async def list_all(self, queues: Iterable[str] = tuple(DEFAULT_QUEUES)) -> list[Batch]:
        """The batches of these queues, oldest first."""
        with redis_errors(self._address):
            found = [batch for name in queues for batch in await self._of_queue(QueueKeys(name))]
        return sorted(found, key=lambda batch: (batch.created_ms, batch.id))

    async def refused(self, batch: Batch) -> int:
        """How many of its requests can't be jobs. Each has its reason among the outcomes."""
        return int(await self._ask(self._redis.hlen(QueueKeys(batch.queue).batch_faults(batch.id))))

    async def status(self, batch: Batch | str, *, queue: str | None = None) -> BatchStatus:
        """How the batch stands now. Looks at every request once."""
        return await self._ask(Survey(self._redis, await self.get(batch, queue=queue)).turn())

    async def wait(
        self,
        batch: Batch | str,
        *,
        queue: str | None = None,
        timeout: float | None = None,
        progress: Callable[[BatchStatus], None] | None = None,
    ) -> BatchStatus:
        """Wait until every request has ended, up to ``timeout`` seconds (0: look once).

        Raises:
            BatchTimeout: the batch goes on.
        """
        found = await self.get(batch, queue=queue)
        survey, deadline = Survey(self._redis, found), Deadline(found.id, timeout)
        while True:
            status = await self._ask(patiently(survey.turn, deadline))
            if progress is not None:
                progress(status)
            if status.state.is_end:
                return status
            if deadline.left(1.0) == 0.0:
                raise BatchTimeout(f"batch {found.id}: not ended after {timeout:g} s")
            await asyncio.sleep(deadline.left(pause_s(status.counts.open)))

    async def cancel(self, batch: Batch | str, *, queue: str | None = None) -> int:
        """Wish all of it cancelled, queued or running; a submit under way ends. How many jobs it still reached."""
        found = await self.get(batch, queue=queue)
        with redis_errors(self._address):
            if not await self._stop(keys=[QueueKeys(found.queue).batch(found.id)]):
                raise lapsed(found)
            return await self._cancel_jobs(found)

    async def outcomes(self, batch: Batch | str, *, queue: str | None = None) -> AsyncGenerator[Outcome]:
        """What each submitted request came to, in the file's order; those that haven't ended are among them."""
        found = await self.get(batch, queue=queue)
        with redis_errors(self._address):
            async for outcome in outcomes(self._redis, found):
                yield outcome

    async def _of_queue(self, keys: QueueKeys) -> list[Batch]:
        ids: list[Any] = await self._redis.zrange(keys.batches, 0, -1)
        # What has lapsed stays in the index until the next batch is begun.
        records = [await read_record(self._redis, keys, raw.decode()) for raw in ids]
        return [record for record in records if record is not None]

    async def _cancel_jobs(self, batch: Batch) -> int:
        keys, wished = QueueKeys(batch.queue), 0
        async for page in Watcher(self._redis, batch).pages():
            job_ids = [batch.job_id(each.custom_id) for each in page if each.fault is None]
            names = [of(job_id) for job_id in job_ids for of in (keys.result, keys.id, keys.cancel)]
            if names:
                wished += await self._cancel(keys=names, args=[batch.expires_ms, keys.cancels, *job_ids])
        return wished


def pause_s(open_requests: int) -> float:
    """Seconds between two looks: at least one, and longer where more is open, since each look is work for Redis."""
    return max(_SHORTEST_PAUSE_S, open_requests * _PAUSE_PER_REQUEST_S)
