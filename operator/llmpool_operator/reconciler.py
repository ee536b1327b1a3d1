"""One pass over pools, in phases: refresh what is known -> who may use which queue -> read Redis -> a turn for each.

Turns that are slow (an API server or a Redis that answers late) go on while later passes serve the other pools.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import structlog

from .claims import Claimant, Clash, clashes, redis_identity
from .credentials import Credentials
from .decide.types import Missing
from .metrics import Metrics
from .observe import Endpoint, Wish
from .pools import Parts, Record
from .readers import Readers
from .store import Key, Store
from .targets.base import Sighting, TargetError, Turn
from .tell import tell
from .web.rows import Seen

log = structlog.get_logger(__name__)
_FLUSH = 1.0
"""Seconds at a stop for what is still to be told."""
Reading: TypeAlias = asyncio.Task[Mapping[Key, Sighting]]


@dataclass(frozen=True, slots=True)
class Clocks:
    """Unix seconds for what is remembered, monotonic ones for what is waited for, CPU seconds for what it costs."""

    wall: Callable[[], float]
    monotonic: Callable[[], float]
    cpu: Callable[[], float]
    """Of the thread that the loop runs in."""


class Reconciler:
    """Serves the pools that the store knows."""

    def __init__(
        self, parts: Parts, store: Store, readers: Readers, credentials: Credentials, metrics: Metrics, clocks: Clocks
    ) -> None:
        self._parts = parts
        self._store = store
        self._readers = readers
        self._credentials = credentials
        self._metrics = metrics
        self._clocks = clocks
        self._records: dict[Key, Record] = {}
        self._turning: dict[Key, asyncio.Task[None]] = {}
        self._reading: set[Reading] = set()
        self._holding: dict[Key, Clash] | None = None
        """Who must hold. None: a pool has come, changed or gone since that was found out."""
        self.on_turn: Callable[[Key, Turn], None] = lambda _key, _turn: None
        """Told of each turn that has ended."""
        self.on_gone: Callable[[Key], None] = lambda _key: None
        """Told of each pool that is gone."""

    @property
    def known(self) -> list[Key]:
        """The pools there are, and those that were there at the last pass; in an order that stays."""
        return list({**self._store.pools.objects, **self._records})

    def seen(self, key: Key) -> Seen | None:
        """What is known of a pool, for those who only look; None: there is none."""
        obj, record = self._store.pools.objects.get(key), self._records.get(key)
        if obj is None:
            return None
        if record is None or record.uid != obj["metadata"]["uid"]:
            return Seen(obj)
        endpoint = record.endpoint if isinstance(record.endpoint, Endpoint) else None
        return Seen(obj, record.last, record.pool.spec if record.pool else None, endpoint)

    async def close(self) -> None:
        """Give up the turns in progress: all they do can be done again. What they had to tell is told, if it can be."""
        tasks = [*self._turning.values(), *self._reading]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._parts.outbox.close(_FLUSH)
        await self._readers.close()
        await self._parts.configs.close()
        await self._credentials.close()

    async def serve(self, keys: Iterable[Key], *, changed: bool, patience: float) -> None:
        """One pass over some pools. ``changed``: they are served even while they wait after a failure.

        Waits for the turns no longer than ``patience`` seconds; the rest go on by themselves.
        """
        records = self._ready(self._refresh(keys), changed=changed)
        if not records:
            return
        holding = self._clashes()
        await self._find_endpoints([record for record in records if record.key not in holding])
        readings = self._start_readings([record for record in records if record.key not in holding])
        for record in records:
            turn = self._turn(record, holding.get(record.key), readings.get(record.key))
            self._turning[record.key] = asyncio.create_task(turn)
        await asyncio.wait([self._turning[record.key] for record in records], timeout=patience)

    def _refresh(self, keys: Iterable[Key]) -> list[Record]:
        """Bring the records up to what the store knows; those whose pool is gone or on its way out are forgotten."""
        refreshed: list[Record] = []
        for key in keys:
            obj = self._store.pools.objects.get(key)
            held = self._records.get(key)
            uid = None if obj is None or obj["metadata"].get("deletionTimestamp") else obj["metadata"]["uid"]
            if held is not None and held.uid != uid:
                self._forget(key)
                held = None
            if obj is None or uid is None:
                continue
            if held is None:
                held = self._records[key] = Record.of(obj, self._parts)
                self._holding = None
            elif held.adopt(obj, self._parts):
                self._holding = None
            refreshed.append(held)
        return refreshed

    def _forget(self, key: Key) -> None:
        """A pool is gone; its Deployment is the garbage collector's. A turn in progress must not write any more."""
        self._records.pop(key).forget(self._parts)
        self._holding = None
        self._parts.outbox.forget(key)
        if task := self._turning.pop(key, None):
            task.cancel()
        self._metrics.forget(key)
        self.on_gone(key)
        log.info("pool gone", namespace=key[0], pool=key[1])

    def _ready(self, records: list[Record], *, changed: bool) -> list[Record]:
        now = self._clocks.monotonic()
        if changed:
            for record in records:
                record.backoff.clear()
        return [record for record in records if record.key not in self._turning and now >= record.backoff.until]

    def _clashes(self) -> dict[Key, Clash]:
        if self._holding is None:
            self._holding = self._find_clashes()
        return self._holding

    def _find_clashes(self) -> dict[Key, Clash]:
        return clashes(
            Claimant(
                record.key,
                record.born,
                record.uid,
                redis_identity(record.pool.spec.redis.url_from(record.key[0])),
                tuple(queue.name for queue in record.pool.spec.queues),
            )
            for record in self._records.values()
            if record.pool is not None and record.pool.spec.mode == "Active"  # who only looks takes nothing
        )

    async def _find_endpoints(self, records: list[Record]) -> None:
        """Where each pool's Redis is. Only those with credentials ask for them, each Secret once."""
        asking: dict[tuple[str, str, str], list[Record]] = {}
        for record in records:
            if record.pool is None:
                continue
            redis, namespace = record.pool.spec.redis, record.key[0]
            url = redis.url_from(namespace)
            if redis.credentials_secret is None:
                record.endpoint = Endpoint(url)
            else:
                asking.setdefault((namespace, url, redis.credentials_secret.name), []).append(record)
        found = await asyncio.gather(*(self._credentials.endpoint(*asked) for asked in asking))
        for endpoint, using in zip(found, asking.values(), strict=True):
            for record in using:
                record.endpoint = endpoint

    def _start_readings(self, records: list[Record]) -> dict[Key, Reading]:
        """One for each Redis: a turn waits for its own alone, so that a silent one holds up nobody else's."""
        at = self._clocks.wall()
        grouped: dict[Endpoint, list[Record]] = {}
        for record in records:
            if isinstance(record.endpoint, Endpoint) and record.pool is not None:
                grouped.setdefault(record.endpoint, []).append(record)
        readings: dict[Key, Reading] = {}
        for endpoint, using in grouped.items():
            wishes = {record.key: record.wish for record in using}
            task: Reading = asyncio.create_task(self._read(endpoint, wishes, at), name="reading")
            self._reading.add(task)
            task.add_done_callback(self._reading.discard)
            readings.update(dict.fromkeys(wishes, task))
        return readings

    async def _read(self, endpoint: Endpoint, wishes: Mapping[Key, Wish], at: float) -> Mapping[Key, Sighting]:
        started = self._clocks.monotonic()
        try:
            return await self._readers.read(endpoint, wishes, at=at)
        finally:
            self._metrics.redis_read(self._clocks.monotonic() - started)

    async def _sighting(self, record: Record, reading: Reading | None) -> Sighting:
        if reading is not None:
            # Shielded: a pool that goes in the meantime must not take the reading of the others with it.
            return (await asyncio.shield(reading))[record.key]
        assert isinstance(record.endpoint, Missing)
        read = await self._readers.read(record.endpoint, {record.key: record.wish}, at=self._clocks.wall())
        return read[record.key]

    async def forget_unused(self) -> None:
        """End the connections to Redises that no pool names any more."""
        used = {record.endpoint for record in self._records.values()}
        endpoints = {endpoint for endpoint in used if isinstance(endpoint, Endpoint)}
        await self._readers.keep(endpoints)
        await self._parts.configs.keep(endpoints)

    async def _turn(self, record: Record, clash: Clash | None, reading: Reading | None) -> None:
        started = self._clocks.monotonic()
        try:
            turn = await self._take_turn(record, clash, reading)
        except TargetError as error:
            self._failed(record, error.reason, str(error))
        except Exception as error:
            # A fault of our own: it must not take the other pools' loop with it, and the log has where it was.
            log.exception("turn broke", namespace=record.key[0], pool=record.key[1])
            self._failed(record, type(error).__name__, "see the log")
        else:
            self._done(record, turn, self._clocks.monotonic() - started)
        finally:
            if self._turning.get(record.key) is asyncio.current_task():  # else the pool was forgotten
                del self._turning[record.key]

    async def _take_turn(self, record: Record, clash: Clash | None, reading: Reading | None) -> Turn:
        problem = record.problem or (TargetError("AmbiguousQueue", clash.message) if clash else None)
        if problem is not None:
            return await record.refuse(problem, self._clocks.wall())
        sighting = await self._sighting(record, reading)
        return await record.turn(sighting, self._clocks.wall())

    def _failed(self, record: Record, kind: str, message: str) -> None:
        self._metrics.error(kind)
        if record.backoff.failures == 0:
            log.warning("turn failed", namespace=record.key[0], pool=record.key[1], reason=kind, error=message)
        record.failed(self._clocks.monotonic())

    def _done(self, record: Record, turn: Turn, seconds: float) -> None:
        self._metrics.turn(record.key, turn, seconds, None if record.pool is None else record.pool.spec)
        tell(record.key, record.last, turn)
        self.on_turn(record.key, turn)
        record.last = turn
        if turn.failure is None or turn.failure.sized:
            record.backoff.clear()
        else:
            record.failed(self._clocks.monotonic())
