"""One embedding call for the inputs of several jobs, and the further ones by which its bad inputs are found."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from .backends.base import BackendError, Batch, ErrorKind
from .embedding_search import failures_of_one, search

_OF_ALL = frozenset({"model_not_found", "backend_url"})
"""Permanent faults that no single input can have."""
_OF_SIZE_OR_CRASH = frozenset({"runner_died", "answer_too_large"})
"""Retryable faults that one input, or too many of them, may be the cause of."""


class EmbeddingJob:
    """One job's texts and what has come for them."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self.ended: asyncio.Future[list[list[float]]] = asyncio.get_running_loop().create_future()
        """Done: the job has its vectors or its failure, or nobody waits for either any more."""
        self.shared = False
        self.calls = 0
        self.load_s: float | None = None
        self._tokens: list[int | None] = []
        self._own_tokens = 0.0
        self._vectors: list[list[float] | None] = [None] * len(texts)
        self._missing = len(texts)

    @property
    def input_tokens(self) -> int | None:
        """Of all calls that brought something; None where one didn't say."""
        known = [count for count in self._tokens if count is not None]
        return sum(known) if len(known) == len(self._tokens) else None

    @property
    def own_tokens(self) -> int | None:
        """This job's part of those, by its part of each call's inputs."""
        return None if self.input_tokens is None else round(self._own_tokens)

    def lacks(self, index: int) -> bool:
        """Whether somebody still waits for this input's vector."""
        return not self.ended.done() and self._vectors[index] is None

    def count(self, batch: Batch, *, shared: bool, part: float) -> None:
        """A call brings something for this job. ``shared``: and for others. ``part``: this job's, of its inputs."""
        self.calls += 1
        self.shared = self.shared or shared
        self._tokens.append(batch.input_tokens)
        self._own_tokens += part * (batch.input_tokens or 0)
        if batch.load_s is not None:
            self.load_s = max(batch.load_s, self.load_s or 0.0)

    def take(self, index: int, vector: list[float]) -> None:
        """The vector of one input; the last one ends the job."""
        self._vectors[index] = vector
        self._missing -= 1
        if self._missing == 0 and not self.ended.done():
            self.ended.set_result([found for found in self._vectors if found is not None])

    def fail(self, error: BaseException) -> None:
        """The first failure ends the job."""
        if not self.ended.done():
            self.ended.set_exception(error)

    def close(self) -> None:
        """Nobody waits any more."""
        self.ended.cancel()


Input = tuple[EmbeddingJob, int]
"""One input: whose, and which of the job's texts."""


class EmbeddingCall:
    """The inputs of one call. Each is answered by the end of :meth:`run` and :meth:`finish`, or its job is gone."""

    def __init__(self, inputs: Sequence[Input], ask: Callable[[list[str]], Awaitable[Batch]]) -> None:
        self._inputs, self._ask = inputs, ask
        self._crashes_left = failures_of_one(len(inputs))

    @property
    def wanted(self) -> bool:
        """Whether anybody still waits for one of the answers."""
        return any(job.lacks(index) for job, index in self._inputs)

    async def run(self) -> None:
        """Ask for all; where that fails by an input, find out by which. Raises what is the fault of none of them."""
        steps = search(0, len(self._inputs))
        failed: bool | None = None
        while True:
            try:
                part = steps.send(failed)
            except StopIteration:
                return
            failed = await self._try([(job, index) for job, index in self._inputs[part] if job.lacks(index)])

    async def _try(self, inputs: list[Input]) -> bool | None:
        """Ask for some of the inputs. Answers whether it failed by them, None: there was none to ask for."""
        if not inputs:
            return None
        jobs = Counter(job for job, _ in inputs)
        try:
            batch = checked(await self._ask([job.texts[index] for job, index in inputs]), len(inputs))
        except BackendError as error:
            if len(jobs) == 1:  # whichever of its inputs it was: the job has failed, and the words are about itself
                next(iter(jobs)).fail(error)
            if not self._may_be_an_inputs(error):
                raise
            return True
        for job, count in jobs.items():
            job.count(batch, shared=len(jobs) > 1, part=count / len(inputs))
        for (job, index), vector in zip(inputs, batch.vectors, strict=True):
            job.take(index, vector)
        return False

    def _may_be_an_inputs(self, error: BackendError) -> bool:
        """Whether asking for fewer inputs can tell more. Crashes are dear, each is followed by a load: past those that
        one bad input explains, it is the server that fails."""
        if error.code == "runner_died":
            self._crashes_left -= 1
            return self._crashes_left >= 0
        if error.kind is ErrorKind.PERMANENT:
            return error.code not in _OF_ALL
        return error.code in _OF_SIZE_OR_CRASH

    def finish(self, error: BaseException | None) -> None:
        """After the run: ``error`` is for all jobs that still lack something of it, None: it was cancelled or whole."""
        for job, index in self._inputs:
            if not job.lacks(index):
                continue
            if error is None:
                job.close()
            else:
                job.fail(_in_common(error))


def _in_common(error: BaseException) -> BaseException:
    """A shared call's error for one of its jobs: without the server's words, which may repeat another's input."""
    if not isinstance(error, BackendError):
        return error
    return BackendError(error.kind, error.code, error.reason, retry_after_s=error.retry_after_s)


def checked(batch: Batch, wanted: int) -> Batch:
    """A call's answer with a vector for each of ``wanted`` inputs, all of the same length. Raises BackendError."""
    lengths = {len(vector) for vector in batch.vectors}
    if len(batch.vectors) != wanted or len(lengths) != 1 or 0 in lengths:
        what = f"wanted {wanted} vectors of one length, got {len(batch.vectors)} of lengths {sorted(lengths)[:3]}"
        raise BackendError(ErrorKind.RETRYABLE, "incomplete", what)
    return batch
