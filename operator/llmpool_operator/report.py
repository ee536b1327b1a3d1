"""Tells a pool's turns to Kubernetes: the status where it is due, an Event where something happened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import structlog

from . import status as statuses
from .events import Event, failed, manifest, resized, unread
from .kube import APIError, KubeAPI, Object, collection, pool_path
from .metrics import Metrics
from .store import Key, Store
from .targets.base import Turn

log = structlog.get_logger(__name__)


class PoolReporter:
    """One pool's. ``history`` gives what the next process must know, ``paused`` what the spec says (None: unknown)."""

    def __init__(
        self,
        api: KubeAPI,
        store: Store,
        metrics: Metrics,
        *,
        key: Key,
        history: Callable[[], dict[str, Any]],
        paused: Callable[[], str | None],
        monotonic: Callable[[], float],
    ) -> None:
        self._api = api
        self._store = store
        self._metrics = metrics
        self._key = key
        self._history = history
        self._paused = paused
        self._monotonic = monotonic
        self._written_at = float("-inf")
        self._told_failure = ""
        self._told_unread = False

    async def report(self, turn: Turn) -> None:
        """Send the turn's Events if it has any, then write the status if it is due. A pool that is gone gets neither.

        Events come first: a status that can't be written must not lose them, they are sent once.
        """
        pool = self._store.pools.objects.get(self._key)
        if pool is None:
            return
        for event in self._events(turn):
            await self._send(pool, event, turn.at)
        await self._write_status(pool, turn)

    async def _write_status(self, pool: Object, turn: Turn) -> None:
        written = pool.get("status") or {}
        wanted = statuses.build(
            written,
            turn,
            name=self._key[1],
            generation=pool["metadata"]["generation"],
            paused=self._paused(),
            history=self._history(),
        )
        now = self._monotonic()
        if not statuses.is_due(written, wanted, since=now - self._written_at):
            return
        self._written_at = now
        # The uid is a precondition: a pool of the same name that came after this one must not get its status.
        body = {"metadata": {"uid": pool["metadata"]["uid"]}, "status": statuses.as_patch(written, wanted)}
        try:
            self._store.saw_pool(await self._api.merge(f"{pool_path(*self._key)}/status", body))
        except APIError as error:
            if error.status != 404:
                raise
            self._store.saw_pool(pool, deleted=True)  # while no watch looked

    def _events(self, turn: Turn) -> Sequence[Event]:
        events = [event] if (event := resized(turn)) is not None else []
        if turn.failure is None:
            self._told_failure = ""
        elif self._told_failure != turn.failure.reason:
            self._told_failure = turn.failure.reason
            events.append(failed(turn.failure))
        event = unread(turn)
        if event is not None and not self._told_unread:
            events.append(event)
        self._told_unread = event is not None
        return events

    async def _send(self, pool: Object, event: Event, at: float) -> None:
        """Events are for people: one that can't be sent is counted and let go."""
        try:
            await self._api.create(collection(self._key[0], "events", "v1"), manifest(pool, event, at=at))
        except APIError as error:
            self._metrics.error("Event")
            log.warning(
                "event not sent", namespace=self._key[0], pool=self._key[1], reason=event.reason, error=str(error)
            )
