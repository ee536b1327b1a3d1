"""What is asked of Redis for a pool, and what the replies say. Pure: :mod:`.readers` has the connections.

What can't be read is Missing with a reason, never zero. Only plain read commands (LLEN, ZCOUNT, HLEN, HGETALL, and TIME
for their clock): no Lua, and never a job's body.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

from llmpool_contract import PoolKeys, QueueKeys
from llmpool_contract.redis_url import RedisAddress, parse_redis_url

from .decide.types import Missing, Observation, QueueBacklog
from .missing import why_missing
from .questions import Questions
from .reports import PoolMemory, rate_of, workers_of
from .targets.base import Sighting

Command: TypeAlias = tuple[str | int, ...]
_PER_QUEUE = 6
POOL_OPTIONS = frozenset({"db", "path", "ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_certs"})
"""What a pool's address may say of its connections. Not a client certificate: that would be the operator's own."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A Redis and who we are there. Equal ones share their connections. ``repr`` holds no secret."""

    url: str = field(repr=False)
    """Any of ``redis_url.py``'s."""
    username: bytes | None = field(default=None, repr=False)
    password: bytes | None = field(default=None, repr=False)
    sentinel_username: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)

    @property
    def address(self) -> RedisAddress:
        """Where it is and how to get in. Raises ValueError for a URL that isn't one."""
        address = parse_redis_url(self.url)
        if address.mode == "sentinel":
            address = address.with_sentinel_login(username=self.sentinel_username, password=self.sentinel_password)
        return address.with_options(username=self.username, password=self.password, client_name="llmpool-operator")

    @property
    def shown(self) -> str:
        """Host and port, or several: what may be told to anybody."""
        return _shown(self.url)


@dataclass(frozen=True, slots=True)
class Wish:
    """What to read for one pool."""

    pool: str
    """``namespace/name``."""
    queues: tuple[str, ...]
    horizon: float
    """Seconds ahead in which a delayed job's due time matters: the pool's ``idleSeconds``."""
    questions: Questions = field(default_factory=Questions)
    """What to ask of others than Redis."""


@lru_cache(maxsize=1024)
def _shown(url: str) -> str:
    try:
        address = parse_redis_url(url)
    except ValueError:
        return "an address that can't be read"
    if "path" in address.options:
        return str(address.options["path"])
    hosts = ",".join(f"{f'[{host}]' if ':' in host else host}:{port}" for host, port in address.nodes)
    return f"{hosts}/{address.master}" if address.master else hosts


def fault_of(url: str, *, allowed: Collection[str] = POOL_OPTIONS) -> str | None:
    """Why a URL can never be connected to, or has an option of the connection that isn't ``allowed``. Else None."""
    try:
        address = parse_redis_url(url)
    except ValueError as error:
        return str(error)
    login = {"username", "password"}
    if wrong := sorted(address.options.keys() - set(allowed) - login):
        return f"option {', '.join(wrong)}: allowed are {', '.join(sorted(set(allowed) - {'path'}))}"
    return None


def commands(wish: Wish, now_ms: int) -> list[Command]:
    """What is asked of Redis for one pool; ``now_ms`` is Redis' own clock."""
    asked: list[Command] = []
    for name in wish.queues:
        high, normal, low, delayed, claimed = _queue_keys(name)
        asked += [
            ("LLEN", high),
            ("LLEN", normal),
            ("LLEN", low),
            ("ZCOUNT", delayed, "-inf", now_ms),
            ("ZCOUNT", delayed, f"({now_ms}", now_ms + int(wish.horizon * 1000)),
            ("HLEN", claimed),
        ]
    workers, config = _pool_keys(wish.pool)
    return [*asked, ("HGETALL", workers), ("HGETALL", config)]


@lru_cache(maxsize=16_384)
def _queue_keys(queue: str) -> tuple[str, str, str, str, str]:
    keys = QueueKeys(queue)
    return keys.high, keys.normal, keys.low, keys.delayed, keys.claimed


@lru_cache(maxsize=16_384)
def _pool_keys(pool: str) -> tuple[str, str]:
    keys = PoolKeys(pool)
    return keys.workers, keys.config


def read(wish: Wish, replies: Sequence[Any], now_ms: int, *, at: float, shown: str, memory: PoolMemory) -> Sighting:
    """What the replies to :func:`commands` say; a reply may be an exception. ``at`` is Unix seconds."""
    queues: dict[str, QueueBacklog | Missing] = {}
    for index, name in enumerate(wish.queues):
        queues[name] = _backlog(replies[index * _PER_QUEUE : (index + 1) * _PER_QUEUE], wish.horizon, shown)
    told, configured = replies[-2], replies[-1]
    config = why_missing(configured, shown) if _failed(configured) else memory.config(configured, shown)
    if _failed(told):
        missing = why_missing(told, shown)
        return Sighting(Observation(at, queues, missing), missing, missing, config, now_ms)
    reports = memory.fresh(told, now_ms)
    return Sighting(Observation(at, queues, rate_of(reports)), workers_of(reports), reports, config, now_ms)


def nothing_known(wish: Wish, missing: Missing, *, at: float) -> Sighting:
    """A sighting in which everything is missing for one reason."""
    return Sighting(Observation(at, dict.fromkeys(wish.queues, missing), missing), missing, missing, missing)


def _failed(reply: Any) -> bool:
    return isinstance(reply, BaseException)


def _backlog(replies: Sequence[Any], horizon: float, shown: str) -> QueueBacklog | Missing:
    for reply in replies:
        if isinstance(reply, BaseException):
            return why_missing(reply, shown)
    high, normal, low, due, soon, claimed = replies
    # A ZSET gives scores only together with its members, which are jobs. A count tells as much as the decision needs:
    # whether something comes due within the horizon, whose end bounds its time from above.
    return QueueBacklog(high + normal + low, due, claimed, next_due_in=horizon if soon else None)
