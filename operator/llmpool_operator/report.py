"""Tells a pool's turns to Kubernetes: the status where it is due, an Event where something happened.

A turn is only looked at here; what it has to tell is sent by the :mod:`.outbox`, from the newest turn there is by then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, TypeAlias

import structlog

from llmpool_contract.pool import LLMWorkerPoolSpec

from . import status as statuses
from .conditions import timestamp
from .decide.types import Decision, History, MetricProposal, Missing
from .events import Event, PoolEvents, manifest
from .kube import APIError, KubeAPI, Object, collection, pool_path
from .metrics import Metrics
from .models import ModelState, model_states
from .outbox import Outbox
from .store import Key, Store
from .targets.base import Turn

log = structlog.get_logger(__name__)
Essence: TypeAlias = tuple[Any, ...]
MOST_EVENTS = 20
"""Events of a pool that wait to be sent; of more, the oldest are let go and counted."""
_EVENT_TRIES = 5
HOLD_TOLD_AFTER = 3.0
"""Seconds that a hold must last to be told: else one late answer of a Redis is told of all its pools, twice."""
_DECISION = tuple(field.name for field in fields(Decision) if field.name not in ("history", "metrics"))
_METRIC = tuple(field.name for field in fields(MetricProposal) if field.name != "age")
_TURN = tuple(field.name for field in fields(Turn) if field.name not in ("at", "sighting", "decision"))


class PoolReporter:
    """One pool's. ``history`` gives what the next process must know, ``spec`` the spec (None: it can't be read)."""

    def __init__(
        self,
        api: KubeAPI,
        store: Store,
        metrics: Metrics,
        outbox: Outbox,
        *,
        key: Key,
        history: Callable[[], dict[str, Any]],
        spec: Callable[[], LLMWorkerPoolSpec | None],
        monotonic: Callable[[], float],
    ) -> None:
        self._api = api
        self._store = store
        self._metrics = metrics
        self._outbox = outbox
        self._key = key
        self._history = history
        self._spec = spec
        self._monotonic = monotonic
        self._written_at = float("-inf")
        self._told = PoolEvents()
        self._latest: Turn | None = None
        self._scaled_at = ""
        """When the last resize was, which the turn to be told need not be the turn of."""
        self._events: deque[tuple[Event, float]] = deque()
        """With their moments, oldest first."""
        self._event_tries = 0
        self._held_since: float | None = None
        """Unix seconds of the first of the turns that held for want of readings."""
        self._settled: Essence | None = None
        """The turn that had nothing to tell: another one like it hasn't either."""

    async def report(self, turn: Turn) -> None:
        """Take up a turn. Sends nothing itself, so it neither waits nor fails."""
        pool = self._store.pools.objects.get(self._key)
        if pool is None or (self._is_brief_hold(turn) and turn.found is None):
            return
        essence = _essence(pool, turn)
        if essence == self._settled:
            return
        self._settled = None
        self._latest = turn
        if turn.resized is not None:
            self._scaled_at = timestamp(turn.at)
        self._keep_events(turn)
        wanted = self._wanted(pool, turn)
        if self._events or self._is_due(pool, wanted, since=self._monotonic() - self._written_at):
            self._outbox.ask(self._key, self._send)
        elif not self._is_due(pool, wanted, since=float("inf")):
            self._settled = essence

    def _is_brief_hold(self, turn: Turn) -> bool:
        if turn.decision is None or turn.failure is not None or not turn.decision.hold:
            self._held_since = None
            return False
        if self._held_since is None:
            self._held_since = turn.at
        # A pool that was never told of is told at once; one that the clock was set back for, too.
        return "status" in self._store.pools.objects[self._key] and 0 <= turn.at - self._held_since < HOLD_TOLD_AFTER

    async def _send(self) -> None:
        """Events first, in their order: a status that can't be written must not lose them, they are sent once."""
        pool = self._store.pools.objects.get(self._key)
        if pool is None or self._latest is None:
            return
        while self._events:
            await self._send_event(pool, *self._events[0])
            self._events.popleft()
            self._event_tries = 0
        await self._write_status(pool, self._latest)

    async def _write_status(self, pool: Object, turn: Turn) -> None:
        wanted = self._wanted(pool, turn)
        now = self._monotonic()
        if not self._is_due(pool, wanted, since=now - self._written_at):
            return
        # The uid is a precondition: a pool of the same name that came after this one must not get its status.
        patch = statuses.as_patch(pool.get("status") or {}, wanted)
        body = {"metadata": {"uid": pool["metadata"]["uid"]}, "status": patch}
        try:
            written = await self._api.merge(f"{pool_path(*self._key)}/status", body)
        except APIError as error:
            if error.status != 404:
                raise
            self._store.saw_pool(pool, deleted=True)  # while no watch looked
            return
        self._written_at = now
        self._store.saw_pool(written)

    def _wanted(self, pool: Object, turn: Turn) -> statuses.Status:
        spec = self._spec()
        wanted = statuses.build(
            pool.get("status") or {},
            turn,
            name=self._key[1],
            generation=pool["metadata"]["generation"],
            spec=spec,
            models=_models(spec, turn),
            history=self._history(),
        )
        if self._scaled_at:
            wanted["lastScaleTime"] = self._scaled_at
        return wanted

    def _is_due(self, pool: Object, wanted: statuses.Status, *, since: float) -> bool:
        return statuses.is_due(pool.get("status") or {}, wanted, since=since)

    def _keep_events(self, turn: Turn) -> None:
        dropped, spec = self._told.dropped, self._spec()
        self._events.extend((event, turn.at) for event in self._told.of(turn, spec, _models(spec, turn)))
        if self._told.dropped > dropped:
            self._metrics.event("dropped", self._told.dropped - dropped)
        while len(self._events) > MOST_EVENTS:
            self._lost(self._events.popleft()[0], "too many wait")

    async def _send_event(self, pool: Object, event: Event, at: float) -> None:
        """Events are for people: one that is refused, or fails time and again, is counted and let go."""
        try:
            await self._api.create(collection(self._key[0], "events", "v1"), manifest(pool, event, at=at))
        except APIError as error:
            self._event_tries += 1
            if error.passing and self._event_tries < _EVENT_TRIES:
                raise
            self._lost(event, str(error))
        else:
            self._metrics.event("sent")

    def _lost(self, event: Event, why: str) -> None:
        self._metrics.event("failed")
        self._metrics.error("Event")
        log.warning("event not sent", namespace=self._key[0], pool=self._key[1], reason=event.reason, error=why)


def _models(spec: LLMWorkerPoolSpec | None, turn: Turn) -> tuple[ModelState, ...] | None:
    reports = turn.sighting.reports
    return None if spec is None or isinstance(reports, Missing) else model_states(spec.models.preload, reports)


def _essence(pool: Object, turn: Turn) -> Essence:
    """What the status is made from, less what moves with time alone: equal ones make equal statuses."""
    decision, sighting = turn.decision, turn.sighting
    decided: Essence | None = None
    if decision is not None:
        metrics = (_values(metric, _METRIC) for metric in decision.metrics)
        decided = (*_values(decision, _DECISION), *metrics, *_remembered(decision.history))
    readings = sighting.observation.queues, sighting.workers, sighting.reports, sighting.gpu
    return pool["metadata"].get("resourceVersion"), readings, decided, _values(turn, _TURN)


def _remembered(history: History) -> Essence:
    """The newest proposal's time moves all the time and makes no status of its own."""
    known = history.recommendations or ()
    return known[:-1], known[-1].replicas if known else None, history.events, history.empty_since


def _values(of: object, names: Sequence[str]) -> Essence:
    return tuple(getattr(of, name) for name in names)
