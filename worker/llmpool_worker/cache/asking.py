"""Asking with a look at what was answered before: the same events, from Redis where it has them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace

from llmpool_contract import Job, QueueKeys
from llmpool_contract.models import folded
from llmpool_worker.backends.base import BackendError, Embeddings, ErrorKind, Event, Final, input_texts
from llmpool_worker.queue.cache_store import CacheStore

from .keys import Serving, cache_keys
from .values import Gathered, KeptAnswer, KeptVector

Ask = Callable[[Job], AsyncGenerator[Event]]
"""Asks a model, perhaps one of the job's fallbacks."""
AnsweredBy = Callable[[], str | None]
"""The model that was asked last; None: none was."""
Known = dict[str, KeptVector]
"""Key -> what is known under it."""


class Cache:
    """Where a job wishes it, and is one that has but one answer, it is answered by what is kept.

    Redis' troubles make it ask, and never fail a job. What a fallback model answered isn't kept.
    """

    def __init__(self, store: CacheStore, serving: Callable[[str], Serving], *, shared: bool) -> None:
        """``serving``: what else decides a model's answers, by its name. ``shared``: across tenants."""
        self._store, self._serving, self._shared = store, serving, shared
        self._storing: set[asyncio.Task[None]] = set()

    async def events(
        self, queue: QueueKeys, job: Job, ask: Ask, answered_by: AnsweredBy = lambda: None
    ) -> AsyncGenerator[Event]:
        """A job's answer. ``answered_by`` None: by the job's own model. Raises what ``ask`` does."""
        names = cache_keys(job, self._serving(job.model), shared=self._shared) if job.cache else []
        if not names:
            events = ask(job)
        elif job.type == "embed":
            events = self._vectors(queue, job, names, ask, answered_by)
        else:
            events = self._answer(queue, job, names[0], ask, answered_by)
        async with aclosing(events):
            async for event in events:
                yield event

    async def flush(self) -> None:
        """Wait until what is to be kept is stored, or has failed to be."""
        await asyncio.gather(*self._storing)

    async def _answer(
        self, queue: QueueKeys, job: Job, name: str, ask: Ask, answered_by: AnsweredBy
    ) -> AsyncGenerator[Event]:
        found = await self._store.get(queue, [name], KeptAnswer.model_validate_json)
        if known := found.get(name):
            for event in known.events():
                yield event
            return
        gathered = Gathered(self._store.max_value_bytes)
        async with aclosing(ask(job)) as events:
            async for event in events:
                gathered.take(event)
                yield event
        if (answer := gathered.whole()) and _by_its_own(job, answered_by):
            self._keep(queue, {name: answer.to_json()})

    async def _vectors(
        self, queue: QueueKeys, job: Job, names: Sequence[str], ask: Ask, answered_by: AnsweredBy
    ) -> AsyncGenerator[Event]:
        texts = dict(zip(names, input_texts(job), strict=True))
        known = await self._store.get(queue, list(texts), KeptVector.from_bytes)
        lacking = {name: text for name, text in texts.items() if name not in known}
        asked, final = Known(), Final("stop", 0, cached=True)
        if lacking:
            vectors, final = await _asked(ask, job.model_copy(update={"input": list(lacking.values())}))
            own = _by_its_own(job, answered_by)
            if known and not own:  # vectors of two models have nothing to do with each other
                known, lacking = Known(), texts
                vectors, final = await _asked(ask, job.model_copy(update={"input": list(texts.values())}))
                own = False
            alone = final.input_tokens if len(lacking) == 1 and not final.shared else None
            asked = {name: KeptVector(vector, alone) for name, vector in zip(lacking, vectors, strict=True)}
            if own:
                self._keep_vectors(queue, asked)
        found = known | asked
        yield Embeddings([list(found[name].vector) for name in names])
        yield replace(final, input_tokens=_sum([final.input_tokens, *(of.input_tokens for of in known.values())]))

    def _keep_vectors(self, queue: QueueKeys, vectors: Known) -> None:
        try:
            self._keep(queue, {name: of.to_bytes() for name, of in vectors.items()})
        except ValueError as error:
            self._store.failed(error)

    def _keep(self, queue: QueueKeys, values: Mapping[str, bytes]) -> None:
        """Beside the job's way: it ends without waiting for this."""
        task = asyncio.create_task(self._store.put(queue, values))
        self._storing.add(task)
        task.add_done_callback(self._storing.discard)


def _by_its_own(job: Job, answered_by: AnsweredBy) -> bool:
    return folded(answered_by() or job.model) == folded(job.model)


async def _asked(ask: Ask, job: Job) -> tuple[list[list[float]], Final]:
    """All of an embed job's answer. A stream without an end is a failed one, and so is one without vectors."""
    vectors, final = list[list[float]](), None
    async with aclosing(ask(job)) as events:
        async for event in events:
            match event:
                case Embeddings(found):
                    vectors = found
                case Final():
                    final = event
    if final is None or len(vectors) != len(input_texts(job)):
        raise BackendError(ErrorKind.RETRYABLE, "incomplete", "the stream has no end, or not all vectors")
    return vectors, final


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
