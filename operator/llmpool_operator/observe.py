"""What is asked of Redis for a pool, and what the replies say. Pure: :mod:`.readers` has the connections.

What can't be read is Missing with a reason, never zero. Only plain read commands (LLEN, ZCOUNT, HLEN, HGETALL, and TIME
for their clock): no Lua, and never a job's body.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from pydantic import ValidationError
from redis.asyncio import ConnectionPool
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
_PER_QUEUE = 6
_OPTIONS = {"ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_certs"}
"""What a URL may say after its ``?``. redis-py takes many more, among them ones that load what they name."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A Redis and who we are there. Equal ones share a connection."""

    url: str
    username: bytes | None = field(default=None, repr=False)
    password: bytes | None = field(default=None, repr=False)

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
    """Why a URL can never be connected to (a port that is no number, an option that isn't allowed), or None."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it is the check
        allowed = _OPTIONS | {"db"} if parts.scheme == "unix" else _OPTIONS
        for name, _ in parse_qsl(parts.query, keep_blank_values=True):
            if name not in allowed:
                return f"option {name[:40]!a}: allowed are {', '.join(sorted(allowed))}"
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
    reports = [report for raw in reply.values() if (report := parse_report(raw)) and report.is_fresh(now_ms)]
    return Workers(
        reporting=len(reports),
        busy=sum(report.in_flight > 0 for report in reports),
        in_flight=sum(report.in_flight for report in reports),
        capacity=sum(report.capacity for report in reports),
    )


def parse_report(raw: bytes | str) -> WorkerReport | None:
    """A worker's report, or None for what isn't one."""
    try:
        return WorkerReport.model_validate_json(raw)
    except ValidationError:  # somebody else's writing, or a future worker's: as good as no report
        return None
