"""One queue, one pool per Redis: who of several that name the same queue may size itself by it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from llmpool_contract.redis_url import parse_redis_url

from .store import Key

Claim: TypeAlias = tuple[str, str]
"""(Redis, queue)."""


@dataclass(frozen=True, slots=True)
class Claimant:
    """A pool and what it claims."""

    key: Key
    born: str
    """creationTimestamp: RFC 3339 in UTC, so that text order is time order."""
    uid: str
    redis: tuple[str, ...]
    """What :func:`redis_identity` makes of the address."""
    queues: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Clash:
    """Why a pool must hold."""

    queue: str
    holder: Key

    @property
    def message(self) -> str:
        """One sentence for the condition."""
        return f"queue {self.queue} belongs to the older pool {'/'.join(self.holder)}: one queue, one pool per Redis"


@lru_cache(maxsize=16_384)
def redis_identity(url: str) -> tuple[str, ...]:
    """What tells whether two addresses are the same Redis: they are if they have any of these in common.

    Host, port and database of a server, of each Sentinel together with the master's name, of each named node of a
    cluster; whatever the scheme and options say. Two names of one host stay two.
    """
    address = parse_redis_url(url)
    where = f"{address.master}/{address.options.get('db') or 0}" if address.master else address.options.get("db") or 0
    if "path" in address.options:
        return (f"{address.options['path']}/{where}",)
    return tuple(sorted(f"{host.lower()}:{port}/{where}" for host, port in address.nodes))


def clashes(claimants: Iterable[Claimant]) -> dict[Key, Clash]:
    """The pools that must hold, each with the first of its queues that an older pool has.

    The oldest takes all its queues; a pool that holds takes none, so that only pools that really work count.
    """
    taken: dict[Claim, Key] = {}
    holding: dict[Key, Clash] = {}
    for pool in sorted(claimants, key=lambda claimant: (claimant.born, claimant.uid)):
        wanted = [(redis, queue) for queue in pool.queues for redis in pool.redis]
        clash = next((claim for claim in wanted if claim in taken), None)
        if clash is None:
            taken.update(dict.fromkeys(wanted, pool.key))
        else:
            holding[pool.key] = Clash(clash[1], taken[clash])
    return holding
