"""Embeddings of many jobs in few calls: what waits for one model goes out together, each job gets its own back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass
from functools import partial

from .backends.base import Batch
from .embedding_call import EmbeddingCall, EmbeddingJob
from .embedding_line import Line

Call = Callable[[list[str], str], Awaitable[Batch]]
"""(texts, model): one request, a vector per text in their order. Raises BackendError."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """What the calls brought for one job."""

    vectors: list[list[float]]
    """One per text, in their order."""
    input_tokens: int | None
    """Tokens of the calls that the vectors came from; None where one of them didn't say."""
    shared: bool
    """Whether those calls had inputs of other jobs too, whose tokens are then in the count."""
    calls: int
    """Calls that the vectors came from."""
    load_s: float | None
    """The longest that one of them waited for the model, as the server tells it, seconds."""
    own_tokens: int | None = None
    """This job's part of ``input_tokens``, guessed from its part of each call's inputs: what its tenant is charged."""


class Embedder:
    """Gathers the inputs of jobs that run at the same time into calls of up to ``batch_size`` inputs of one model.

    A full call goes at once. One that isn't waits up to ``gather_s`` seconds, but only while ``more_expected`` says
    that other jobs are about to ask. No more than ``max_calls`` are under way for a model: Ollama runs an embedding
    model one input at a time, so meanwhile the next call gathers by itself.

    A job that is cancelled takes back its inputs that aren't sent; of those that are, the vectors are dropped, and a
    call that nobody is left in is closed.
    """

    def __init__(
        self,
        call: Call,
        *,
        batch_size: int,
        gather_s: float,
        more_expected: Callable[[], bool],
        max_calls: int = 1,
    ) -> None:
        self._call, self._batch_size, self._max_calls = call, batch_size, max_calls
        self._gather_s, self._more_expected = gather_s, more_expected
        self._lanes: dict[str, _Lane] = {}

    async def embed(self, texts: list[str], model: str, *, alone: bool = False) -> Embedded:
        """Vectors for a job's texts, at least one. ``alone``: in calls that no other job shares.

        Raises the BackendError that the job's own inputs met, or one that all jobs of a shared call have in common;
        the latter is without the server's words, which may repeat another job's input.
        """
        if not texts:
            raise ValueError("texts: got none, wanted at least one")
        lane = self._lanes.get(model) or self._open(model)
        job = EmbeddingJob(texts)
        lane.add(job, alone=alone)
        try:
            vectors = await job.ended
        finally:
            lane.leave(job)
        return Embedded(vectors, job.input_tokens, job.shared, job.calls, job.load_s, job.own_tokens)

    async def aclose(self) -> None:
        """Close every call, and wait until they are. Jobs that still wait for one are cancelled."""
        await asyncio.gather(*(lane.aclose() for lane in list(self._lanes.values())))

    def _open(self, model: str) -> _Lane:
        lane = _Lane(
            Line(self._batch_size),
            lambda texts: self._call(texts, model),
            self._gather_s,
            self._more_expected,
            self._max_calls,
            partial(self._idle, model),
        )
        self._lanes[model] = lane
        return lane

    def _idle(self, model: str, lane: _Lane) -> None:
        if self._lanes.get(model) is lane:
            del self._lanes[model]


class _Lane:
    """One model's line and its calls under way. Forgotten, by ``idle``, once it has neither."""

    def __init__(
        self,
        line: Line[EmbeddingJob],
        ask: Callable[[list[str]], Awaitable[Batch]],
        gather_s: float,
        more_expected: Callable[[], bool],
        max_calls: int,
        idle: Callable[[_Lane], None],
    ) -> None:
        self._line, self._ask, self._max_calls = line, ask, max_calls
        self._gather_s, self._more_expected, self._idle = gather_s, more_expected, idle
        self._calls: dict[EmbeddingCall, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, job: EmbeddingJob, *, alone: bool) -> None:
        self._line.add(job, len(job.texts), asyncio.get_running_loop().time(), alone=alone)
        self._go()

    def leave(self, job: EmbeddingJob) -> None:
        """A job has ended, however it did."""
        job.close()
        self._line.leave(job)
        for call, task in self._calls.items():
            if not task.done() and not call.wanted:
                task.cancel()
        self._go()

    async def aclose(self) -> None:
        while taken := self._line.take():
            for job, _ in taken:
                job.close()
        tasks = list(self._calls.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _go(self, *, gathered: bool = False) -> None:
        """Send what is due, and see to it that the rest is looked at when it will be."""
        loop = asyncio.get_running_loop()
        if self._timer:
            self._timer.cancel()
            self._timer = None
        while self._line and len(self._calls) < self._max_calls:
            now = loop.time()
            due = self._line.due(now, self._gather_s, more_expected=self._more_expected())
            if due > now and not gathered:
                self._timer = loop.call_at(due, partial(self._go, gathered=True))
                return
            self._send()
        if not self._line and not self._calls:
            self._idle(self)

    def _send(self) -> None:
        call = EmbeddingCall(self._line.take(), self._ask)
        # A context of its own: the call is no single job's, so neither are its log lines and spans.
        task = asyncio.get_running_loop().create_task(call.run(), context=Context())
        self._calls[call] = task
        task.add_done_callback(partial(self._ended, call))

    def _ended(self, call: EmbeddingCall, task: asyncio.Task[None]) -> None:
        del self._calls[call]
        call.finish(None if task.cancelled() else task.exception())
        self._go()
