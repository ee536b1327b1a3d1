"""The queue's protocol as calls: each is one script, for one queue, on the connection of its purpose."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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


MAX_JOBS = 64
"""Jobs that one claim call may bring."""
FORGET_REPORTS_MS = 3_600_000
"""A report this old is of a worker that died, ms."""


class Script:
    """One Lua file behind the common part, called by its hash, and by its text where the server doesn't know it.

    EVAL, not SCRIPT LOAD: it goes to the node of a cluster that has the keys, and is remembered there.
    """

    def __init__(self, name: str, *parts: str) -> None:
        lua = files(__package__) / "lua"
        self.text = "".join((lua / f"{part}.lua").read_text() for part in ("common", *parts, name))
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, redis: Redis, keys: Sequence[str], args: Sequence[Any]) -> Any:
        try:
            return await redis.evalsha(self.sha, len(keys), *keys, *args)
        except NoScriptError:  # a restarted or flushed server; the script hasn't run
            return await redis.eval(self.text, len(keys), *keys, *args)


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
    slot_units: int = 1
    """What a slot is worth: so many inputs of embed jobs, or one job of another type."""
    fair: bool = True
    """Tenants take turns."""
    tenants: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Tenant, or ``*`` for all others -> ``j`` jobs and ``t`` tokens a minute. Empty: no limits."""

    def counts_tokens(self, tenant: str) -> bool:
        """Whether anybody will ask how many tokens this tenant used."""
        return bool(tenant and self.tenants) and "t" in self.tenants.get(tenant, self.tenants.get("*", {}))


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim call brought."""

    claims: list[Claim]
    buried: int
    """Bodies over the size limit that went straight to the dead letters."""
    now_ms: int
    full: bool = False
    """The call ended because it had all that was wanted. Otherwise the lists hold nothing more for this worker."""
    passed: Mapping[str, int] = field(default_factory=dict)
    """Models whose jobs were passed over, since no cap names them -> since when, Unix ms."""
    more: frozenset[str] = frozenset()
    """Models of which jobs may be left that could have been taken with more room."""


@dataclass(frozen=True, slots=True)
class Tended:
    """What a round of tending found. Ends are Unix ms by Redis' clock, None: there is none."""

    now_ms: int
    reaped: int
    promoted: int
    next_due_ms: int | None
    next_lease_end_ms: int | None


@dataclass(frozen=True, slots=True)
class Depth:
    """What is in a queue at one moment, in jobs."""

    ready: int
    delayed: int
    in_flight: int
    dead: int
    oldest_s: float | None
    """Age of the oldest job at a ready list's head, s, by its ``enqueued_at``. None: there is none, or none says."""


@dataclass(frozen=True, slots=True)
class Wished:
    """What a pool asks of this worker."""

    now_ms: int
    drain_until_ms: int | None
    """End of a drain that is asked of it, Unix ms."""
    preload: tuple[str, ...] | None
    """Models to hold; None: the pool has no list."""


class QueueStore:
    """The scripts, ready to call. Holds no connection: the caller knows which of its own a call belongs on."""

    def __init__(self, worker: str, limits: Limits) -> None:
        self.limits = limits
        self._worker = worker
        self._claim, self._check, self._renew = Script("claim", "window"), Script("check"), Script("renew")
        self._settle, self._tend = Script("settle", "window"), Script("tend")
        self._append, self._report, self._depth = Script("append"), Script("report"), Script("depth")

    async def claim(
        self,
        redis: Redis,
        keys: QueueKeys,
        token: str,
        units: int,
        *,
        order: str = HIGH_FIRST,
        caps: Mapping[str, int] | None = None,
    ) -> Claimed:
        """Take jobs worth up to ``units`` (``Limits.slot_units`` to a slot), at most 64. Repeat with the same token
        after a lost reply. ``caps``: model -> units that may be taken of it, ``*`` for any other; None: of any."""
        limits = self.limits
        lists = [keys.list_of(_LETTER[letter]) for letter in order]
        names = [keys.claimed, keys.lease, keys.dead, keys.stats, keys.delayed, keys.waiting, keys.turns, keys.used]
        args: list[Any] = [token, units, limits.lease_ms, self._worker]
        args += [limits.job_max_bytes, limits.reply_max_bytes, limits.oversized_keep_bytes]
        args += [limits.dead_max_entries, limits.dead_max_bytes, limits.slot_units, MAX_JOBS]
        args += ["" if caps is None else json.dumps(dict(caps)), int(limits.fair)]
        args += [json.dumps({t: dict(of) for t, of in limits.tenants.items()}) if limits.tenants else "", *order]
        now, buried, full, passed, more, *rows = await self._claim(redis, [*names, *lists], args)
        now_ms = int(now)
        names_passed = [name.decode("utf-8", "replace") for name in passed[::2]]
        return Claimed(
            claims=[self._read_claim(keys, row, now_ms) for row in rows],
            buried=int(buried),
            now_ms=now_ms,
            full=full == b"1",
            passed=dict(zip(names_passed, map(int, passed[1::2]), strict=True)),
            more=frozenset(name.decode("utf-8", "replace") for name in more),
        )

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
        names += [keys.settled(token), keys.used]
        limits = self.limits
        args: list[Any] = [limits.result_ttl_ms, limits.dead_max_entries, limits.dead_max_bytes, keys.events]
        for end in batch:
            job_id = end.job_id or end.claim.element.origin  # never an empty key: it would be of another slot
            names += [keys.id(job_id), keys.result(job_id), keys.stream(job_id)]
            tokens = end.tokens if limits.counts_tokens(end.tenant) else 0
            short = (
                f"{end.claim.handle}|{end.kind}|{end.status}|{end.number}|{tokens}"  # redis-py's time is by argument
            )
            args += [short, end.job_id, end.payload, end.reason, end.note, end.tenant]
        return [word == b"done" for word in await self._settle(redis, names, args)]

    async def tend(self, redis: Redis, keys: QueueKeys) -> Tended:
        """Reap expired claims and promote due jobs, up to 100 of each. May be repeated."""
        names = [keys.claimed, keys.lease, keys.delayed, keys.stats, keys.high, keys.normal, keys.low]
        now, reaped, promoted, due, lease_end = (
            int(n) for n in await self._tend(redis, names, [100, self.limits.lease_ms])
        )
        return Tended(now, reaped, promoted, due if due >= 0 else None, lease_end if lease_end >= 0 else None)

    async def depth(self, redis: Redis, keys: QueueKeys) -> Depth:
        """What is in the queue now. Changes nothing."""
        names = [*keys.ready, keys.delayed, keys.claimed, keys.dead]
        now, ready, delayed, in_flight, dead, since = await self._depth(redis, names, [])
        oldest_s = max(0.0, int(now) / 1_000 - float(since)) if since else None  # the producer's clock may be ahead
        return Depth(int(ready), int(delayed), int(in_flight), int(dead), oldest_s)

    async def append(self, redis: Redis, chunk: StreamChunk) -> bool:
        """Add pieces to a job's stream; False: the job isn't ours any more. May be repeated."""
        keys, claim = chunk.claim.keys, chunk.claim
        args: list[Any] = [claim.handle, self.limits.stream_ttl_ms, claim.element.attempts + 1, chunk.first]
        for kind, text in chunk.pieces:
            args += [kind, text]
        return bool(await self._append(redis, [keys.claimed, keys.stream(chunk.job_id)], args) == b"held")

    async def report(self, redis: Redis, pool: PoolKeys, report: str, *, first: bool) -> Wished:
        """Leave a report ('' takes it away), and hear what the pool wishes."""
        args = [self._worker, report, int(first), FORGET_REPORTS_MS]
        now, drain, listed, preload = await self._report(redis, [pool.workers, pool.config], args)
        models = tuple(name for name in preload.decode("utf-8", "replace").split(",") if name)
        return Wished(int(now), int(drain) if drain.isdigit() else None, models if listed == b"1" else None)
