"""One pipelined read per Redis, for all pools that use it. What can't be read is Missing with a reason, never zero.

Only plain read commands (TIME, LLEN, ZCOUNT, HLEN, HGETALL): no Lua, and never a job's body. A read-only user will do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

from pydantic import ValidationError
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from llmpool_contract import PoolKeys, QueueKeys, WorkerReport

from .decide.types import Missing, Observation, QueueBacklog
from .targets.base import Sighting, Workers

Command: TypeAlias = tuple[str | int, ...]
K = TypeVar("K")
_PER_QUEUE = 6


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A Redis and who we are there. Equal ones share a connection."""

    url: str
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @property
    def shown(self) -> str:
        """Host and port: what may be told to anybody."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port or 6379}"


@dataclass(frozen=True, slots=True)
class Wish:
    """What to read for one pool."""

    pool: str
    """``namespace/name``."""
    queues: tuple[str, ...]
    horizon: float
    """Seconds ahead in which a delayed job's due time matters: the pool's ``idleSeconds``."""


def fault_of(url: str) -> str | None:
    """Why a URL can never be connected to (a port that is no number, an option that doesn't exist), or None."""
    try:
        urlsplit(url).port  # noqa: B018 - reading it is the check
        ConnectionPool.from_url(url).make_connection()  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, AttributeError, RedisError) as error:
        return str(error)
    return None


def commands(wish: Wish, now_ms: int) -> list[Command]:
    """What is asked of Redis for one pool; ``now_ms`` is Redis' own clock."""
    asked: list[Command] = []
    for name in wish.queues:
        keys = QueueKeys(name)
        asked += [("LLEN", ready) for ready in keys.ready]
        asked += [
            ("ZCOUNT", keys.delayed, "-inf", now_ms),
            ("ZCOUNT", keys.delayed, f"({now_ms}", now_ms + int(wish.horizon * 1000)),
            ("HLEN", keys.claimed),
        ]
    return [*asked, ("HGETALL", PoolKeys(wish.pool).workers)]


def read(wish: Wish, replies: Sequence[Any], now_ms: int, *, at: float, shown: str) -> Sighting:
    """What the replies to :func:`commands` say; a reply may be an exception. ``at`` is Unix seconds."""
    queues: dict[str, QueueBacklog | Missing] = {}
    for index, name in enumerate(wish.queues):
        queues[name] = _backlog(replies[index * _PER_QUEUE : (index + 1) * _PER_QUEUE], wish.horizon, shown)
    return Sighting(Observation(at, queues), _workers(replies[-1], now_ms, shown))


def nothing_known(wish: Wish, missing: Missing, *, at: float) -> Sighting:
    """A sighting in which everything is missing for one reason."""
    return Sighting(Observation(at, dict.fromkeys(wish.queues, missing)), missing)


def why_missing(error: BaseException, shown: str) -> Missing:
    """An error as a reason that anybody may read: a fixed word and the address, never the error's own text."""
    word = next((word for kind, word in _WORDS if isinstance(error, kind)), type(error).__name__)
    if word == "RedisError" and str(error).startswith("WRONGTYPE"):
        word = "WrongType"
    if word == "RedisError" and str(error).startswith("NOAUTH"):
        word = "RedisAuth"
    return Missing(f"{word} at {shown}")


_WORDS: tuple[tuple[type[BaseException], str], ...] = (
    (NoPermissionError, "RedisNoPermission"),
    (AuthenticationError, "RedisAuth"),
    (BusyLoadingError, "RedisLoading"),
    (RedisTimeoutError, "RedisTimeout"),
    (TimeoutError, "RedisTimeout"),
    (RedisConnectionError, "RedisUnreachable"),
    (OSError, "RedisUnreachable"),
    (ResponseError, "RedisError"),
)


def _backlog(replies: Sequence[Any], horizon: float, shown: str) -> QueueBacklog | Missing:
    for reply in replies:
        if isinstance(reply, BaseException):
            return why_missing(reply, shown)
    high, normal, low, due, soon, claimed = replies
    # A ZSET gives scores only together with its members, which are jobs. A count tells as much as the decision needs:
    # whether something comes due within the horizon, whose end bounds its time from above.
    return QueueBacklog(high + normal + low, due, claimed, next_due_in=horizon if soon else None)


def _workers(reply: Any, now_ms: int, shown: str) -> Workers | Missing:
    if isinstance(reply, BaseException):
        return why_missing(reply, shown)
    reports = [report for raw in reply.values() if (report := _report(raw)) and report.is_fresh(now_ms)]
    return Workers(
        reporting=len(reports),
        busy=sum(report.in_flight > 0 for report in reports),
        in_flight=sum(report.in_flight for report in reports),
        capacity=sum(report.capacity for report in reports),
    )


def _report(raw: bytes) -> WorkerReport | None:
    try:
        return WorkerReport.model_validate_json(raw)
    except ValidationError:  # somebody else's writing, or a future worker's: as good as no report
        return None


class RedisReader:
    """Reads one Redis, over one connection that is made anew after any failure."""

    def __init__(self, endpoint: Endpoint, timeout: float, monotonic: Callable[[], float]) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._monotonic = monotonic
        self._offset_ms: float | None = None
        """Redis' clock minus ours, from the last reading: a step of its clock is off by one reading at most."""
        given = {"username": endpoint.username, "password": endpoint.password}
        login: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        self._redis = Redis.from_url(
            endpoint.url,
            **login,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),  # the next tick is the retry
            max_connections=2,
            client_name="llmpool-operator",
        )

    async def close(self) -> None:
        """End the connection."""
        await self._redis.aclose()

    async def read(self, wishes: Mapping[K, Wish], *, at: float) -> dict[K, Sighting]:
        """All pools of this Redis at once. Never raises for what Redis does; takes no longer than the timeout."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self._read(wishes, at)
        except (RedisError, OSError, TimeoutError) as error:
            missing = why_missing(error, self._endpoint.shown)
            return {key: nothing_known(wish, missing, at=at) for key, wish in wishes.items()}

    async def _read(self, wishes: Mapping[K, Wish], at: float) -> dict[K, Sighting]:
        if self._offset_ms is None:
            self._learn_clock(await self._redis.time())
        assert self._offset_ms is not None
        now_ms = int(self._monotonic() * 1000 + self._offset_ms)
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.execute_command("TIME")
            asked = {key: commands(wish, now_ms) for key, wish in wishes.items()}
            for command in (command for of_pool in asked.values() for command in of_pool):
                pipe.execute_command(*command)
            replies = iter(await pipe.execute(raise_on_error=False))
        moment = next(replies)
        if isinstance(moment, BaseException):
            raise moment
        self._learn_clock(moment)
        shown = self._endpoint.shown
        return {
            key: read(wish, list(islice(replies, len(asked[key]))), now_ms, at=at, shown=shown)
            for key, wish in wishes.items()
        }

    def _learn_clock(self, moment: tuple[int, int]) -> None:
        seconds, microseconds = moment
        self._offset_ms = seconds * 1000 + microseconds / 1000 - self._monotonic() * 1000


class Readers:
    """All Redises in use."""

    def __init__(self, timeout: float, monotonic: Callable[[], float]) -> None:
        self._timeout = timeout
        self._monotonic = monotonic
        self._readers: dict[Endpoint, RedisReader] = {}

    async def read(self, wishes: Mapping[K, tuple[Endpoint, Wish]], *, at: float) -> dict[K, Sighting]:
        """Read what is wished, each Redis once and all side by side."""
        grouped: dict[Endpoint, dict[K, Wish]] = {}
        for key, (endpoint, wish) in wishes.items():
            grouped.setdefault(endpoint, {})[key] = wish
        parts = await asyncio.gather(*(self._reader(endpoint).read(of, at=at) for endpoint, of in grouped.items()))
        return {key: sighting for part in parts for key, sighting in part.items()}

    async def keep(self, endpoints: set[Endpoint]) -> None:
        """End the connections that nobody uses any more."""
        for endpoint in [held for held in self._readers if held not in endpoints]:
            await self._readers.pop(endpoint).close()

    async def close(self) -> None:
        """End all connections."""
        await self.keep(set())

    def _reader(self, endpoint: Endpoint) -> RedisReader:
        if endpoint not in self._readers:
            self._readers[endpoint] = RedisReader(endpoint, self._timeout, self._monotonic)
        return self._readers[endpoint]
