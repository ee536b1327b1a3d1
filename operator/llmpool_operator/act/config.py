"""Writes what a pool's workers are told, the hash at ``{pool:NS/NAME}:config``: one script, one key, one call a pool.

The script compares before it writes. A hash of another pool's uid belongs to another cluster's pool of the same name;
one with a later transition of the leader's lease has another leader by now. Both hold for as long as the hash is
renewed: after five minutes without it nobody is there, and whoever writes next owns it. So a pool that was deleted
while no operator ran, or a Lease that was made anew, keeps nobody out for good.

The hash outlives its pool's deletion by a week at most: an operator takes it away with its pool where it can, and an
operator that is down over a weekend must not take the preload list from the workers.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from llmpool_contract import PoolKeys
from llmpool_contract.config import PoolConfig
from llmpool_contract.redis_open import RedisOpener
from llmpool_operator.missing import why_missing
from llmpool_operator.observe import Endpoint
from llmpool_operator.targets.base import TargetError

from .drains import LEASE_MS, RENEW_BELOW_MS

RENEW_MS = 120_000
"""A hash this old is written anew, changed or not."""
ABANDONED_MS = 300_000
"""A hash this old has no owner any more."""
_LIFE_MS = 7 * 86_400_000
_AT_ONCE = 8
"""Writes to one Redis that are under way at the same time."""
_LUA = (files(__package__) / "config.lua").read_text()
_SHA = hashlib.sha1(_LUA.encode(), usedforsecurity=False).hexdigest()
_FORGET = "return redis.call('HGET', KEYS[1], 'owner') == ARGV[1] and redis.call('PEXPIRE', KEYS[1], 1) or 0"


@dataclass(frozen=True, slots=True)
class Message:
    """What a pool's workers should be told now."""

    uid: str
    """The pool's."""
    preload: tuple[str, ...]
    hold: tuple[str, ...] = ()
    """Drains to take or to renew."""
    release: tuple[str, ...] = ()
    """Drains to take away."""


def message(
    config: PoolConfig,
    redis_ms: int,
    *,
    uid: str,
    preload: tuple[str, ...],
    hold: frozenset[str],
    release: frozenset[str],
    transition: int,
) -> Message | None:
    """What to write, given what the hash said at ``redis_ms``. None: it says all this already, and is young enough."""
    renew = tuple(sorted(name for name in hold if config.drains.get(name, 0) - redis_ms < RENEW_BELOW_MS))
    lift = tuple(sorted(name for name in release if name in config.drains))
    stale = (config.owner, config.transition, config.preload) != (
        uid,
        transition,
        preload,
    ) or redis_ms - config.renewed_ms >= RENEW_MS
    return Message(uid, preload, renew, lift) if renew or lift or stale else None


def taken_by_another(config: PoolConfig, redis_ms: int, uid: str) -> bool:
    """Whether a live hash is another pool's."""
    return config.owner not in ("", uid) and redis_ms - config.renewed_ms <= ABANDONED_MS


def name_taken(pool: str) -> TargetError:
    """What a pool says whose hash is another one's."""
    text = (
        f"{pool} in this Redis belongs to a pool of another cluster, or to a deleted one: use another Redis, database "
        f"or name; a hash that nobody renews for {ABANDONED_MS // 60_000} minutes is given up"
    )
    return TargetError("PoolNameTaken", text)


@dataclass(frozen=True, slots=True)
class _Client:
    """A Redis that is written to."""

    opener: RedisOpener
    redis: Redis
    places: asyncio.Semaphore


class ConfigWriter:
    """Writes to all Redises, each call in ``timeout`` seconds. ``transition`` gives the number of leaders until now."""

    def __init__(self, timeout: float, transition: Callable[[], int] = lambda: 0) -> None:
        self._timeout = timeout
        self.transition = transition
        self._clients: dict[Endpoint, _Client] = {}
        self._goodbyes: set[asyncio.Task[None]] = set()

    async def write(self, endpoint: Endpoint, pool: str, message: Message) -> int:
        """Write one pool's. Gives the moment by Redis' clock, ms; the drains hold for ``LEASE_MS`` from then on.

        Raises:
            TargetError: ``PoolNameTaken``, ``NotLeader``, or, with ``sized``, ``ConfigNotWritten``.
        """
        args: list[str | int] = [message.uid, self.transition(), LEASE_MS, ABANDONED_MS, _LIFE_MS]
        args += [",".join(message.preload), len(message.hold), *message.hold, *message.release]
        try:
            outcome, now, found = await self._call(endpoint, PoolKeys(pool).config, args)
        except (RedisError, OSError, TimeoutError) as error:
            why = why_missing(error, endpoint.shown).reason
            raise TargetError("ConfigNotWritten", f"the workers can't be told anything: {why}", sized=True) from error
        if outcome == b"taken":
            raise name_taken(pool)
        if outcome == b"old":
            told = f"{found.decode()} instead of {self.transition()}"
            raise TargetError("NotLeader", f"a later leader has written to {pool}'s config: transition {told}")
        return int(now)

    def forget(self, endpoint: Endpoint, pool: str, uid: str) -> None:
        """Take a deleted pool's hash away, if it can be done: nobody waits for it."""
        task = asyncio.create_task(self._forget(endpoint, PoolKeys(pool).config, uid), name="forget config")
        self._goodbyes.add(task)
        task.add_done_callback(self._goodbyes.discard)

    async def _forget(self, endpoint: Endpoint, key: str, uid: str) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await self._client(endpoint).redis.eval(_FORGET, 1, key, uid)
        except (RedisError, OSError, TimeoutError):
            return  # it ends by itself, and five minutes later it is nobody's

    async def _call(self, endpoint: Endpoint, key: str, args: list[str | int]) -> list[bytes]:
        client = self._client(endpoint)
        async with asyncio.timeout(self._timeout), client.places:
            try:
                return await client.redis.evalsha(_SHA, 1, key, *args)  # type: ignore[no-any-return]
            except NoScriptError:  # a restarted or flushed server; the script hasn't run
                return await client.redis.eval(_LUA, 1, key, *args)  # type: ignore[no-any-return]

    def _client(self, endpoint: Endpoint) -> _Client:
        if endpoint not in self._clients:
            opener = RedisOpener(endpoint.address, connect_timeout_s=self._timeout)
            redis = opener.open(retry=Retry(NoBackoff(), 0), timeout_s=self._timeout, connections=_AT_ONCE)
            self._clients[endpoint] = _Client(opener, redis, asyncio.Semaphore(_AT_ONCE))
        return self._clients[endpoint]

    async def keep(self, endpoints: set[Endpoint]) -> None:
        """End the connections that nobody uses any more."""
        for endpoint in [held for held in self._clients if held not in endpoints]:
            client = self._clients.pop(endpoint)
            for one in (client.redis, client.opener):
                try:
                    await one.aclose()
                except (RedisError, OSError):
                    continue  # it was cut before, or is cut now: either way it has ended

    async def close(self) -> None:
        """End all connections, once what was begun is done or timed out."""
        await asyncio.gather(*self._goodbyes, return_exceptions=True)
        await self.keep(set())
