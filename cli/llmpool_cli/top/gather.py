"""Reads what :class:`.frame.Frame` holds: a cluster's pools where there is one, and Redis. Either may be away."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from llmpool_client import BadName, Client, ClientError, PoolWorkers, QueueState
from llmpool_contract.keys import DEFAULT_QUEUES
from llmpool_operator.kube import APIError, KubeAPI, pools_path

from .frame import Frame, PoolRow, pool_row

FIND_AGAIN_S = 20.0


@dataclass(frozen=True, slots=True)
class Places:
    """Where to look."""

    kubeconfig: str | None
    """None: there is no cluster, and ``no_cluster`` says why."""
    no_cluster: str
    namespace: str | None
    """Of the pools that are asked for; None: all."""
    workers_of: str | None
    """The namespace whose workers alone are wanted; None: all that report to this Redis, whosever they are."""
    redis_url: str
    queues: tuple[str, ...]
    """Empty: those of the pools, else the default ones."""


class Gatherer:
    """Looks again and again over the same connections."""

    def __init__(self, places: Places, clock: Callable[[], float] = time.time) -> None:
        self._places = places
        self._clock = clock
        self._api = None if places.kubeconfig is None else KubeAPI(places.kubeconfig)
        self._client = Client(places.redis_url)
        self._found: tuple[float, list[str]] | None = None

    async def look(self) -> Frame:
        """One frame. What can't be reached is missing in it, with the reason."""
        missing: list[str] = []
        pools = await self._pools(missing)
        queues, workers = await self._redis(pools, missing)
        return Frame(self._clock(), pools, queues, workers, tuple(missing))

    async def close(self) -> None:
        """End all connections."""
        if self._api is not None:
            await self._api.close()
        await self._client.aclose()

    async def _pools(self, missing: list[str]) -> tuple[PoolRow, ...] | None:
        if self._api is None:
            missing.append(f"pools: {self._places.no_cluster}")
            return None
        try:
            found, _ = await self._api.list(pools_path(self._places.namespace))
        except APIError as error:
            missing.append(f"pools: {error.message or error.reason}")
            return None
        return tuple(pool_row(pool) for pool in found)

    async def _redis(
        self, pools: tuple[PoolRow, ...] | None, missing: list[str]
    ) -> tuple[tuple[QueueState, ...] | None, tuple[PoolWorkers, ...] | None]:
        names = self._places.queues or _queues_of(pools) or tuple(DEFAULT_QUEUES)
        try:
            queues = tuple(await self._client.queues(names))
            workers = tuple([await self._client.workers(pool) for pool in await self._reporting()])
        except (BadName, ClientError) as error:
            missing.append(f"queues and workers: {error}")
            return None, None
        return queues, workers

    async def _reporting(self) -> list[str]:
        """Pools with workers. Found anew only now and then: finding looks through the names of all keys."""
        now = self._clock()
        if self._found is None or not 0 <= now - self._found[0] < FIND_AGAIN_S:
            self._found = (now, await self._client.pools())
        wanted = self._places.workers_of
        return [pool for pool in self._found[1] if wanted is None or pool.startswith(f"{wanted}/")]


def _queues_of(pools: tuple[PoolRow, ...] | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(queue for pool in pools or () for queue in pool.queues))
