"""One attempt's request: to the first model of the job's chain that may be asked, under its breaker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from llmpool_contract import Job
from llmpool_contract.mark import WaitsFor
from llmpool_contract.models import folded

from .backends import Backend, BackendError, ErrorKind, Event, ask
from .backends.base import Batch, Embeddings, Final, input_texts
from .breaker_types import Open
from .breakers import Breakers, CallPermit
from .embedding import Embedder
from .failures import handling_of
from .held import HeldJob
from .models.places import Places
from .retry_budget import RetryBudget
from .routing import Chains, Take, Wait, route

NOT_OPEN_S = 1.0
"""Before a job is looked at again whose model isn't in memory, seconds."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Where an attempt has gone."""

    model: str
    fallback_from: str | None = None
    permit: CallPermit | None = None
    """Of a call of its own; shared calls are counted by themselves."""


class NotNow(BackendError):
    """No model of the job's chain may be asked now. Costs no attempt. ``waits_for``: what is waited for, for people."""

    def __init__(self, code: str, reason: str, retry_after_s: float, waits_for: WaitsFor) -> None:
        super().__init__(ErrorKind.UNAVAILABLE, code, reason, retry_after_s=retry_after_s)
        self.waits_for = waits_for


def model_not_open(model: str) -> NotNow:
    """Its model isn't in memory."""
    return NotNow("model_not_open", f"{model} is not in memory", NOT_OPEN_S, WaitsFor(model=model))


def no_budget(wait_s: float) -> NotNow:
    """A retry, and too many of the last minute's jobs were retries."""
    return NotNow("retry_budget", "retries wait for their share of the work", wait_s, WaitsFor(retry_budget=True))


class Models:
    """What may be asked of one server: the breakers, and what is in its memory, as one answer per model."""

    def __init__(
        self,
        server: str,
        breakers: Breakers,
        places: Places,
        now_s: Callable[[], float],
        missed: Callable[[], None],
    ) -> None:
        """``now_s``: Unix seconds by Redis' clock, which the leader's plan goes by. ``missed``: it should hear at once
        of a model that is asked for."""
        self._server, self._breakers, self._places = server, breakers, places
        self._now_s, self._missed = now_s, missed

    def blocked(self, model: str) -> Open | None:
        """Why a model (a folded name) may not be asked now."""
        if blocked := self._breakers.blocked(self._server, model, time.monotonic()):
            return blocked
        if not self._places.is_open(model) and self.trouble_of(model) is None:
            return Open(time.monotonic() + NOT_OPEN_S, "it is not in memory")
        return None

    def trouble_of(self, model: str) -> BackendError | None:
        """Why a model can't be had, as the leader found when it tried to load it."""
        if not self._places.managed or self._places.is_open(model):
            return None
        now = self._now_s()
        trouble = self._places.trouble_of(model, now)
        if trouble is None:
            return None
        kind = ErrorKind.PERMANENT if trouble.code in _FOR_GOOD else ErrorKind.RETRYABLE
        return BackendError(kind, trouble.code, trouble.reason, retry_after_s=trouble.until - now)

    def waiting(self, wait: Wait) -> BackendError:
        """What a job is told that can't go anywhere."""
        model = folded(wait.model)
        if shut := self._breakers.unreachable(self._server, time.monotonic()):
            return BackendError(ErrorKind.UNAVAILABLE, "backend_unreachable", shut.reason)
        after_s = max(0.0, wait.until - time.monotonic())
        if self._places.is_open(model):
            until_ms = int((self._now_s() + after_s) * 1_000)
            return NotNow("breaker_open", wait.reason, after_s, WaitsFor(breaker=wait.model, until_ms=until_ms))
        if self._places.missed(model, self._now_s()):
            self._missed()
        return model_not_open(wait.model)

    def permit(self, model: str) -> CallPermit:
        """Leave for one call. Raises BackendError where a breaker is open."""
        now = time.monotonic()
        given = self._breakers.allow(self._server, folded(model), now)
        if isinstance(given, Open):
            raise self._shut(model, given)
        return given

    def check_breaker(self, model: str) -> None:
        """Raises BackendError where it is open. Takes no permit."""
        if shut := self._breakers.blocked(self._server, folded(model), time.monotonic()):
            raise self._shut(model, shut)

    def _shut(self, model: str, shut: Open) -> BackendError:
        return self.waiting(Wait(shut.until, model, f"the breaker of {model} is open: {shut.reason}"))

    def check(self, model: str) -> None:
        """Raises what keeps a model from being asked beside its breaker: its load failed, or it isn't in memory."""
        name = folded(model)
        if self._places.is_open(name):
            return
        raise self.trouble_of(name) or self.waiting(Wait(time.monotonic() + NOT_OPEN_S, model, ""))

    def move(self, held: HeldJob, model: str) -> None:
        """The job goes to another model than the one that it was counted for."""
        if (name := folded(model)) != held.model:
            self._places.ended(held.model, held.units)
            held.model = name
            self._places.began(name, held.units)


_FOR_GOOD = frozenset({"model_not_found", "refused"})


class Asker:
    """Asks a backend for one attempt of a job; chat and generate jobs each for itself, embed jobs together."""

    def __init__(
        self,
        backend: Backend,
        models: Models,
        chains: Chains,
        embedder: Embedder,
        budget: RetryBudget,
        max_retries: int,
        asks: Callable[[str], None] = lambda _handle: None,
    ) -> None:
        """``asks`` hears of each embed job, by its handle, when it asks for its vectors."""
        self._backend, self._models, self._chains = backend, models, chains
        self._embedder, self._budget, self._max_retries, self._asks = embedder, budget, max_retries, asks

    async def events(self, held: HeldJob, job: Job, asked: Callable[[Asked], None]) -> AsyncGenerator[Event]:
        """The answer's events. ``asked`` hears of each model before it is asked. Raises BackendError."""
        chain, tried, last = self._chains.of(job), list[str](), None
        while True:
            take = self._next(chain, held.claim.element.attempts, tried, last)
            guard: Guard | None = None
            try:
                guard = self._may_ask(held, job, take.model, first=not tried)
                asked(Asked(take.model, take.fallback_from, guard.permit if guard else None))
                async with aclosing(self._source(held, job, take.model)) as events:
                    async for event in events:
                        if guard is not None:
                            guard.heard(event)
                        yield event
            except BackendError as error:
                handling = handling_of(error)
                if guard is not None:
                    guard.permit.failed(time.monotonic(), handling.counts)
                if not handling.goes_on:
                    raise
                tried.append(take.model)
                last = error
            else:
                return

    def _next(self, chain: Sequence[str], attempts: int, tried: list[str], last: BackendError | None) -> Take:
        """The model to ask. Raises what becomes of the job where there is none."""
        if len(chain) == 1 and not tried:
            return Take(chain[0], "")  # whether it may be asked shows when its breaker is
        match route(chain, self._models.blocked, time.monotonic(), attempts=attempts, tried=tried):
            case Take() as take:
                return take
            case Wait() as wait:
                raise self._models.waiting(wait) from last
        assert last is not None
        raise last

    def _may_ask(self, held: HeldJob, job: Job, model: str, *, first: bool) -> Guard | None:
        """What the breakers learn by; None: an embed job, whose calls are counted apart. Raises BackendError."""
        self._models.check(model)
        guard: Guard | None = None
        if job.type == "embed":
            self._models.check_breaker(model)
        else:
            guard = Guard(self._models.permit(model))
        if first:
            try:
                self._charge(held.claim.element.attempts)
            except NotNow:
                if guard is not None:
                    guard.permit.ignored(time.monotonic())
                raise
        self._models.move(held, model)
        return guard

    def _charge(self, attempts: int) -> None:
        """A first attempt pays for retries, a retry is paid for: where a model is asked, not where a job waits. Raises
        :class:`NotNow`."""
        now = time.monotonic()
        if attempts == 0:
            self._budget.deposit(now)
        elif not self._budget.allow(now):
            raise no_budget(self._budget.wait_s(now))

    def _source(self, held: HeldJob, job: Job, model: str) -> AsyncGenerator[Event]:
        if job.type != "embed":
            return ask(self._backend, job, model)
        # The last attempt shares its calls with nobody: nobody is buried for a neighbour's input.
        alone = held.claim.element.attempts >= self._max_retries
        return self._vectors(held.claim.handle, job, model, alone=alone)

    async def _vectors(self, handle: str, job: Job, model: str, *, alone: bool) -> AsyncGenerator[Event]:
        self._asks(handle)
        got = await self._embedder.embed(input_texts(job), model, alone=alone)
        yield Embeddings(got.vectors)
        yield Final("stop", got.input_tokens, load_s=got.load_s, shared=got.shared or None, own_tokens=got.own_tokens)


class Guard:
    """One call under its breakers. What it came to where it was cut off, its caller knows."""

    __slots__ = ("_began", "_first_s", "permit")

    def __init__(self, permit: CallPermit) -> None:
        self.permit = permit
        self._began = time.monotonic()
        self._first_s: float | None = None

    def heard(self, event: Event) -> None:
        """Something came."""
        if self._first_s is None:
            now = time.monotonic()
            self._first_s = now - self._began
            self.permit.connected(now)
        if isinstance(event, Final):
            self.permit.success(time.monotonic(), self._first_s)


async def guarded_call(backend: Backend, models: Models, timeout_s: float, texts: list[str], model: str) -> Batch:
    """One embedding call, which many jobs may share: the breakers count it once, and its time is its own."""
    permit, began = models.permit(model), time.monotonic()
    try:
        async with asyncio.timeout(timeout_s):
            batch = await backend.embed_texts(texts, model)
        permit.success(time.monotonic(), time.monotonic() - began)
    except TimeoutError:
        permit.failed(time.monotonic())
        raise BackendError(ErrorKind.RETRYABLE, "backend_stalled", "no answer in time") from None
    except BackendError as error:
        permit.failed(time.monotonic(), handling_of(error).counts)
        raise
    finally:
        permit.ignored(time.monotonic())
    return batch
