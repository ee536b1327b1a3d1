"""The same for programs without an event loop."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from llmpool_client.stepping import Steps
from llmpool_contract import Priority
from llmpool_contract.keys import DEFAULT_QUEUES

from .batches import Batches
from .counts import BatchStatus
from .file import BatchFile
from .outcomes import Outcome
from .record import KEEP_S, WINDOW_S, Batch
from .submitting import Progress

T = TypeVar("T")


class Run(Protocol):
    """Runs a coroutine on the client's own loop and waits for it."""

    def __call__(self, work: Coroutine[Any, Any, T]) -> T: ...


class SyncBatches:
    """:class:`Batches` with plain calls; see there."""

    def __init__(self, batches: Batches, run: Run) -> None:
        self._batches = batches
        self._run = run

    def submit(
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
        """As :meth:`Batches.submit`; ``progress`` is called on the client's thread."""
        work = self._batches.submit(
            file,
            batch_id=batch_id,
            name=name,
            queue=queue,
            priority=priority,
            window_s=window_s,
            keep_s=keep_s,
            progress=progress,
        )
        return self._run(work)

    def get(self, batch: Batch | str, *, queue: str | None = None) -> Batch:
        """As :meth:`Batches.get`."""
        return self._run(self._batches.get(batch, queue=queue))

    def list_all(self, queues: Iterable[str] = tuple(DEFAULT_QUEUES)) -> list[Batch]:
        """As :meth:`Batches.list_all`."""
        return self._run(self._batches.list_all(queues))

    def refused(self, batch: Batch) -> int:
        """As :meth:`Batches.refused`."""
        return self._run(self._batches.refused(batch))

    def status(self, batch: Batch | str, *, queue: str | None = None) -> BatchStatus:
        """As :meth:`Batches.status`."""
        return self._run(self._batches.status(batch, queue=queue))

    def wait(
        self,
        batch: Batch | str,
        *,
        queue: str | None = None,
        timeout: float | None = None,
        progress: Callable[[BatchStatus], None] | None = None,
    ) -> BatchStatus:
        """As :meth:`Batches.wait`; ``progress`` is called on the client's thread."""
        return self._run(self._batches.wait(batch, queue=queue, timeout=timeout, progress=progress))

    def cancel(self, batch: Batch | str, *, queue: str | None = None) -> int:
        """As :meth:`Batches.cancel`."""
        return self._run(self._batches.cancel(batch, queue=queue))

    def outcomes(self, batch: Batch | str, *, queue: str | None = None) -> Iterator[Outcome]:
        """As :meth:`Batches.outcomes`."""
        steps = Steps(self._batches.outcomes(batch, queue=queue))
        try:
            while (outcome := self._run(steps.next())) is not None:
                yield outcome
        finally:
            self._run(steps.close())
