"""One queue, one pool per Redis: who of several that name the same queue may size itself by it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlsplit

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
    redis: str
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


def redis_identity(url: str) -> str:
    """What makes two addresses the same Redis: host, port and database, whatever the scheme and options say."""
    parts = urlsplit(url)
    return f"{(parts.hostname or '').lower()}:{parts.port or 6379}/{parts.path.strip('/') or '0'}"


def clashes(claimants: Iterable[Claimant]) -> dict[Key, Clash]:
    """The pools that must hold, each with the first of its queues that an older pool has.

    The oldest takes all its queues; a pool that holds takes none, so that only pools that really work count.
    """
    taken: dict[Claim, Key] = {}
    holding: dict[Key, Clash] = {}
    for pool in sorted(claimants, key=lambda claimant: (claimant.born, claimant.uid)):
        wanted = [(pool.redis, queue) for queue in pool.queues]
        clash = next((claim for claim in wanted if claim in taken), None)
        if clash is None:
            taken.update(dict.fromkeys(wanted, pool.key))
        else:
            holding[pool.key] = Clash(clash[1], taken[clash])
    return holding
