"""Durability on request: Redis confirms that a push is on disk or on replicas before the submit returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import NoPermissionError, ResponseError

from .connection import ANSWER_TIMEOUT_S
from .errors import DurabilityUnavailable

MOST_TIMEOUT_MS = int(ANSWER_TIMEOUT_S * 1_000) - 1_000
"""The answer has to come before the connection gives up on it."""


@dataclass(frozen=True, slots=True)
class Durability:
    """What has to be confirmed of a push.

    With ``local`` by ``WAITAOF`` (Redis >= 7.2): on the server's disk and on the disks of ``replicas`` replicas.
    Without by ``WAIT``: in the memory of ``replicas`` replicas. Neither makes Redis a consensus system: a failover may
    still prefer a replica that has less.
    """

    local: int = 1
    """1: the server's own append-only file has been synced to disk. 0: no matter."""
    replicas: int = 0
    """How many replicas have it."""
    timeout_ms: int = 500
    """How long the confirmation may take. Measured for a disk with ``appendfsync everysec``: up to 240 ms, median 60
    (Valkey 9.1, 50 submits beside other writes); with ``always`` 2 ms."""

    def __post_init__(self) -> None:
        if self.local not in (0, 1):
            raise ValueError(f"durability: local: got {self.local!r}, allowed are 0 and 1")
        if not self.replicas >= 0:
            raise ValueError(f"durability: replicas: got {self.replicas!r}, wanted a number from 0")
        if not self.local + self.replicas:
            raise ValueError("durability: local and replicas are both 0: that confirms nothing")
        if not 1 <= self.timeout_ms <= MOST_TIMEOUT_MS:
            raise ValueError(
                f"durability: timeout_ms: got {self.timeout_ms!r}, allowed are 1 to {MOST_TIMEOUT_MS} milliseconds"
            )

    def command(self, timeout_ms: int) -> tuple[str | int, ...]:
        """The command that waits."""
        if self.local:
            return "WAITAOF", int(self.local), self.replicas, timeout_ms
        return "WAIT", self.replicas, timeout_ms

    def shortfall(self, answer: Any) -> str | None:
        """What is missing by the command's answer. None: all is confirmed."""
        disk, replicas = answer if self.local else (0, answer)
        missing = [] if disk >= self.local else ["its own disk"]
        if replicas < self.replicas:
            missing.append(f"{self.replicas - replicas} of {self.replicas} replicas")
        return " and ".join(missing) or None


async def check_can_confirm(redis: Redis, durable: Durability) -> None:
    """Ask before anything is pushed, whether the server has what a confirmation takes.

    Raises:
        DurabilityUnavailable: it has no append-only file, is too old, or is a cluster, where a moved slot would have
            the push and the wait answered by two servers.
    """
    if isinstance(redis, RedisCluster):
        raise DurabilityUnavailable("it is a cluster, whose slots may move between a push and its confirmation", ())
    if not durable.local:
        return  # WAIT needs nothing of the server
    try:
        await redis.execute_command(*durable.command(timeout_ms=1))  # type: ignore[no-untyped-call]
    except ResponseError as error:
        raise_unavailable(error, pushed=())


def raise_unavailable(error: ResponseError, pushed: Sequence[Any]) -> None:
    """Raise what a refused wait means; what isn't about durability is raised as it is."""
    text = str(error)
    if isinstance(error, NoPermissionError):
        raise error
    if "unknown command" in text.lower():
        raise DurabilityUnavailable("it has no WAITAOF, which Redis has from 7.2 on", pushed) from error
    if "appendonly" in text.lower():
        raise DurabilityUnavailable("its append-only file is off (appendonly no)", pushed) from error
    raise error
