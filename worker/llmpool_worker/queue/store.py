"""The queue's protocol as calls: each is one script, for one queue, on the connection of its purpose."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from llmpool_contract import PoolKeys, Priority, QueueKeys
from llmpool_contract.element import Element

from .types import Claim, Hold, Settlement, StreamChunk, Verdict

_LETTER: dict[str, Priority] = {"h": "high", "n": "normal", "l": "low"}
HIGH_FIRST = "hnl"
LOW_FIRST = "lhn"
"""The order of each eighth claim, so that a stream of urgent jobs never starves the others for good."""


FORGET_REPORTS_MS = 3_600_000
"""A report this old is of a worker that died, ms."""


class Script:
    """One Lua file behind the common part, called by its hash and loaded when the server doesn't know it."""

    def __init__(self, name: str) -> None:
        lua = files(__package__) / "lua"
        self.text = (lua / "common.lua").read_text() + (lua / f"{name}.lua").read_text()
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, redis: Redis, keys: Sequence[str], args: Sequence[Any]) -> Any:
        try:
            return await redis.evalsha(self.sha, len(keys), *keys, *args)
        except NoScriptError:  # a restarted or flushed server; the script hasn't run
            await redis.script_load(self.text)
            return await redis.evalsha(self.sha, len(keys), *keys, *args)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that the scripts keep, bytes, entries and milliseconds."""

    lease_ms: int
    job_max_bytes: int
    reply_max_bytes: int = 4 * 1_048_576
    oversized_keep_bytes: int = 4_096
    result_ttl_ms: int = 86_400_000
    stream_ttl_ms: int = 3_600_000
    dead_max_entries: int = 10_000
    dead_max_bytes: int = 64 * 1_048_576


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim call brought."""

    claims: list[Claim]
    buried: int
    """Bodies over the size limit that went straight to the dead letters."""
    now_ms: int


@dataclass(frozen=True, slots=True)
class Tended:
    """What a round of tending found. Ends are Unix ms by Redis' clock, None: there is none."""

    now_ms: int
    reaped: int
    promoted: int
    next_due_ms: int | None
    next_lease_end_ms: int | None


class QueueStore:
    """The scripts, ready to call. Holds no connection: the caller knows which of its own a call belongs on."""

    def __init__(self, worker: str, limits: Limits) -> None:
        self.limits = limits
        self._worker = worker
        self._claim, self._check, self._renew = Script("claim"), Script("check"), Script("renew")
        self._settle, self._tend = Script("settle"), Script("tend")
        self._append, self._report = Script("append"), Script("report")

    async def claim(self, redis: Redis, keys: QueueKeys, token: str, want: int, *, order: str = HIGH_FIRST) -> Claimed:
        """Take up to ``want`` jobs (at most 64). Repeat with the same token after a lost reply."""
        limits = self.limits
        lists = [keys.list_of(_LETTER[letter]) for letter in order]
        reply = await self._claim(
            redis,
            [keys.claimed, keys.lease, keys.dead, keys.stats, *lists],
            [
                token,
                min(want, 64),
                limits.lease_ms,
                self._worker,
                limits.job_max_bytes,
                limits.reply_max_bytes,
                limits.oversized_keep_bytes,
                limits.dead_max_entries,
                limits.dead_max_bytes,
                *order,
            ],
        )
        now_ms = int(reply[0])
        return Claimed([self._read_claim(keys, row, now_ms) for row in reply[2:]], int(reply[1]), now_ms)

    def _read_claim(self, keys: QueueKeys, row: list[Any], now_ms: int) -> Claim:
        handle, origin, letter, deliveries, attempts, first, job_id, body = row
        element = Element(
            body=body,
            origin=origin.decode(),
            priority=_LETTER[letter.decode()],
            deliveries=int(deliveries),
            attempts=int(attempts),
            first_claimed_ms=int(first),
            worker=self._worker,
            job_id=job_id.decode("utf-8", "replace"),
        )
        return Claim(keys, handle.decode(), element, now_ms)

    async def check(self, redis: Redis, keys: QueueKeys, jobs: Sequence[tuple[Claim, str]]) -> list[Verdict]:
        """Which of these (claim, job id) may run. May be repeated."""
        names, args = [keys.claimed], [str(self.limits.result_ttl_ms)]
        for claim, job_id in jobs:
            names += [keys.id(job_id), keys.result(job_id), keys.cancel(job_id)]
            args += [claim.handle, claim.element.origin]
        return [Verdict(word.decode()) for word in await self._check(redis, names, args)]

    async def renew(self, redis: Redis, keys: QueueKeys, jobs: Sequence[tuple[Claim, str]]) -> list[Hold]:
        """Extend the leases of these (claim, job id). May be repeated."""
        names = [keys.claimed, keys.lease, *(keys.cancel(job_id) for _, job_id in jobs)]
        reply = await self._renew(redis, names, [self.limits.lease_ms, *(claim.handle for claim, _ in jobs)])
        return [Hold(word.decode()) for word in reply]

    async def settle(self, redis: Redis, keys: QueueKeys, token: str, batch: Sequence[Settlement]) -> list[bool]:
        """End these claims; False: lost, nothing happened. Repeat with the same token after a lost reply."""
        names = [keys.claimed, keys.lease, keys.delayed, keys.dead, keys.stats, keys.high, keys.normal, keys.low]
        names.append(keys.settled(token))
        limits = self.limits
        args: list[Any] = [limits.result_ttl_ms, limits.dead_max_entries, limits.dead_max_bytes, keys.events]
        for end in batch:
            job_id = end.job_id or end.claim.element.origin  # never an empty key: it would be of another slot
            names += [keys.id(job_id), keys.result(job_id), keys.stream(job_id)]
            args += [end.claim.handle, end.kind.value, end.job_id, end.status, end.payload, end.number, end.reason]
        return [word == b"done" for word in await self._settle(redis, names, args)]

    async def tend(self, redis: Redis, keys: QueueKeys) -> Tended:
        """Reap expired claims and promote due jobs, up to 100 of each. May be repeated."""
        names = [keys.claimed, keys.lease, keys.delayed, keys.stats, keys.high, keys.normal, keys.low]
        now, reaped, promoted, due, lease_end = (
            int(n) for n in await self._tend(redis, names, [100, self.limits.lease_ms])
        )
        return Tended(now, reaped, promoted, due if due >= 0 else None, lease_end if lease_end >= 0 else None)

    async def append(self, redis: Redis, chunk: StreamChunk) -> bool:
        """Add pieces to a job's stream; False: the job isn't ours any more. May be repeated."""
        keys, claim = chunk.claim.keys, chunk.claim
        args: list[Any] = [claim.handle, self.limits.stream_ttl_ms, claim.element.attempts + 1, chunk.first]
        for kind, text in chunk.pieces:
            args += [kind, text]
        return bool(await self._append(redis, [keys.claimed, keys.stream(chunk.job_id)], args) == b"held")

    async def report(self, redis: Redis, pool: PoolKeys, report: str, *, first: bool) -> tuple[int, int | None]:
        """Leave a report ('' takes it away). Answers (now ms, end of a drain asked of this worker or None)."""
        args = [self._worker, report, int(first), FORGET_REPORTS_MS]
        now, drain = await self._report(redis, [pool.workers, pool.config], args)
        return int(now), int(drain) if drain else None
