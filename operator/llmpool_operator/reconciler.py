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
from .observe import Endpoint, nothing_known
from .pools import Parts, Record
from .readers import Readers
from .store import Key, Store
from .targets.base import Sighting, TargetError, Turn
from .tell import tell

log = structlog.get_logger(__name__)
Reading: TypeAlias = asyncio.Task[Mapping[Key, Sighting]]


@dataclass(frozen=True, slots=True)
class Clocks:
    """Unix seconds for what is remembered, monotonic ones for what is waited for."""

    wall: Callable[[], float]
    monotonic: Callable[[], float]


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

    @property
    def known(self) -> set[Key]:
        """The pools there are, and those that were there at the last pass."""
        return {*self._store.pools.objects, *self._records}

    async def close(self) -> None:
        """Give up the turns in progress: all they do can be done again."""
        tasks = [*self._turning.values(), *self._reading]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._readers.close()

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
            self._turning[record.key] = asyncio.create_task(turn, name=f"turn {'/'.join(record.key)}")
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
            else:
                held.adopt(obj, self._parts)
            refreshed.append(held)
        return refreshed

    def _forget(self, key: Key) -> None:
        """A pool is gone; its Deployment is the garbage collector's. A turn in progress must not write any more."""
        del self._records[key]
        if task := self._turning.pop(key, None):
            task.cancel()
        self._metrics.forget(key)
        log.info("pool gone", namespace=key[0], pool=key[1])

    def _ready(self, records: list[Record], *, changed: bool) -> list[Record]:
        self._turning = {key: task for key, task in self._turning.items() if not task.done()}
        now = self._clocks.monotonic()
        if changed:
            for record in records:
                record.backoff.clear()
        return [record for record in records if record.key not in self._turning and now >= record.backoff.until]

    def _clashes(self) -> dict[Key, Clash]:
        return clashes(
            Claimant(
                record.key,
                record.born,
                record.uid,
                redis_identity(record.pool.spec.redis.url_from(record.key[0])),
                tuple(queue.name for queue in record.pool.spec.queues),
            )
            for record in self._records.values()
            if record.pool is not None
        )

    async def _find_endpoints(self, records: list[Record]) -> None:
        readable = [record for record in records if record.pool is not None]
        found = await asyncio.gather(*(self._endpoint(record) for record in readable))
        for record, endpoint in zip(readable, found, strict=True):
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
            task: Reading = asyncio.create_task(self._readers.read(endpoint, wishes, at=at), name="reading")
            self._reading.add(task)
            task.add_done_callback(self._reading.discard)
            readings.update(dict.fromkeys(wishes, task))
        return readings

    async def _sighting(self, record: Record, reading: Reading | None) -> Sighting:
        if reading is not None:
            # Shielded: a pool that goes in the meantime must not take the reading of the others with it.
            return (await asyncio.shield(reading))[record.key]
        assert isinstance(record.endpoint, Missing)
        return nothing_known(record.wish, record.endpoint, at=self._clocks.wall())

    async def _endpoint(self, record: Record) -> Endpoint | Missing:
        assert record.pool is not None
        redis = record.pool.spec.redis
        secret = redis.credentials_secret.name if redis.credentials_secret else None
        return await self._credentials.endpoint(record.key[0], redis.url_from(record.key[0]), secret)

    async def forget_unused(self) -> None:
        """End the connections to Redises that no pool names any more."""
        used = {record.endpoint for record in self._records.values()}
        await self._readers.keep({endpoint for endpoint in used if isinstance(endpoint, Endpoint)})

    async def _turn(self, record: Record, clash: Clash | None, reading: Reading | None) -> None:
        problem = record.problem or (TargetError("AmbiguousQueue", clash.message) if clash else None)
        try:
            if problem is not None:
                turn = await record.refuse(problem, self._clocks.wall())
            else:
                sighting = await self._sighting(record, reading)
                turn = await record.turn(sighting, self._clocks.wall())
        except TargetError as error:
            self._failed(record, error.reason, str(error))
        except Exception as error:
            # A fault of our own: it must not take the other pools' loop with it, and the log has where it was.
            log.exception("turn broke", namespace=record.key[0], pool=record.key[1])
            self._failed(record, type(error).__name__, "see the log")
        else:
            self._done(record, turn)

    def _failed(self, record: Record, kind: str, message: str) -> None:
        self._metrics.error(kind)
        if record.backoff.failures == 0:
            log.warning("turn failed", namespace=record.key[0], pool=record.key[1], reason=kind, error=message)
        record.failed(self._clocks.monotonic())

    def _done(self, record: Record, turn: Turn) -> None:
        self._metrics.turn(record.key, turn)
        tell(record.key, record.last, turn)
        record.last = turn
        if turn.failure is None or turn.failure.sized:
            record.backoff.clear()
        else:
            record.failed(self._clocks.monotonic())
