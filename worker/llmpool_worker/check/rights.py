"""Whether the user may do what a worker does: each command tried on paper (ACL DRYRUN), else on keys of no use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from llmpool_contract import BackendKeys, PoolKeys, QueueKeys

from .rows import Row

SCRATCH = "{llmpool-check}"
NAME = "Redis rights"


class Kind(Enum):
    """What a command is given in the place of a key."""

    LIST = auto()
    HASH = auto()
    ZSET = auto()
    STREAM = auto()
    STRING = auto()
    CHANNEL = auto()


Sample = tuple[str | Kind, ...]

SAMPLES: tuple[Sample, ...] = (
    ("PING",),
    ("TIME",),
    ("INFO", "memory"),
    ("EVAL", "return 1", "1", Kind.STRING),
    ("EVALSHA", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "1", Kind.STRING),
    ("LPUSH", Kind.LIST, "x"),
    ("TYPE", Kind.LIST),
    ("BLMOVE", Kind.LIST, Kind.LIST, "LEFT", "LEFT", "0.01"),
    ("LPOP", Kind.LIST),
    ("LINDEX", Kind.LIST, "0"),
    ("LLEN", Kind.LIST),
    ("HSET", Kind.HASH, "f", "1"),
    ("HINCRBY", Kind.HASH, "f", "1"),
    ("HSETNX", Kind.HASH, "f", "1"),
    ("HGET", Kind.HASH, "f"),
    ("HGETALL", Kind.HASH),
    ("HEXISTS", Kind.HASH, "f"),
    ("HKEYS", Kind.HASH),
    ("HLEN", Kind.HASH),
    ("HDEL", Kind.HASH, "f"),
    ("ZADD", Kind.ZSET, "1", "m"),
    ("ZCARD", Kind.ZSET),
    ("ZSCORE", Kind.ZSET, "m"),
    ("ZRANGE", Kind.ZSET, "0", "0"),
    ("ZRANGEBYSCORE", Kind.ZSET, "-inf", "0"),
    ("ZREM", Kind.ZSET, "m"),
    ("ZREMRANGEBYRANK", Kind.ZSET, "0", "0"),
    ("XADD", Kind.STREAM, "*", "f", "v"),
    ("XLEN", Kind.STREAM),
    ("XRANGE", Kind.STREAM, "-", "+", "COUNT", "1"),
    ("XREVRANGE", Kind.STREAM, "+", "-", "COUNT", "1"),
    ("XDEL", Kind.STREAM, "0-1"),
    ("SET", Kind.STRING, "x", "PX", "1000"),
    ("GET", Kind.STRING),
    ("MGET", Kind.STRING),
    ("EXISTS", Kind.STRING),
    ("PEXPIRE", Kind.STRING, "1000"),
    ("PUBLISH", Kind.CHANNEL, "x"),
    ("SUBSCRIBE", Kind.CHANNEL),
    ("DEL", Kind.STRING),
)
"""Everything that the worker and its scripts call, with arguments that would be taken."""


@dataclass(frozen=True, slots=True)
class Places:
    """Whose keys a worker touches."""

    queues: Sequence[QueueKeys]
    pool: PoolKeys
    server: BackendKeys | None = None


async def check_rights(redis: Redis, node: Redis, where_to: Places) -> Row:
    """One row. ``redis`` finds the node of a key, ``node`` is one server, which is asked about all of them."""
    try:
        user = str(await _call(node, "ACL WHOAMI"))
    except ResponseError:
        user = "the user"
    try:
        denied = [
            f"{sample[0]} on {where}"
            for where, names in patterns(where_to)
            for sample in SAMPLES
            if _concerns(sample, names) and not await _on_paper(node, user, sample, names)
        ]
    except ResponseError:  # older than 7.0, or not allowed either
        return await _tried(redis, user)
    if denied:
        return Row.fail(NAME, f"{user} may not {listed(denied)}", _advice(user, where_to))
    return Row.ok(NAME, f"{user} may do all that a worker does")


def patterns(places: Places) -> Iterator[tuple[str, Mapping[Kind, str]]]:
    """(what to call it, a key for each kind) for every pattern that a user may be bound to."""
    for keys in places.queues:
        yield keys.normal, {Kind.LIST: keys.normal}
        yield (
            f"{{{keys.queue}}}:*",
            {
                Kind.LIST: keys.high,
                Kind.HASH: keys.claimed,
                Kind.ZSET: keys.lease,
                Kind.STREAM: keys.dead,
                Kind.STRING: keys.result("llmpool-check"),
                Kind.CHANNEL: keys.events,
            },
        )
    yield places.pool.workers, {Kind.HASH: places.pool.workers}
    if server := places.server:
        names = {Kind.HASH: server.plan, Kind.ZSET: server.alive, Kind.CHANNEL: server.news}
        yield f"{{backend:{server.server}}}:*", names


def listed(denied: Sequence[str], at_most: int = 6) -> str:
    """The first few, and how many more there are."""
    more = len(denied) - at_most
    return ", ".join(denied[:at_most]) + (f" and {more} more" if more > 0 else "")


def _concerns(sample: Sample, names: Mapping[Kind, str]) -> bool:
    kinds = [part for part in sample if isinstance(part, Kind)]
    return all(kind in names for kind in kinds)


def _filled(sample: Sample, names: Mapping[Kind, str]) -> list[str]:
    return [names[part] if isinstance(part, Kind) else part for part in sample]


async def _call(redis: Redis, *words: str) -> Any:
    return await redis.execute_command(*words)  # type: ignore[no-untyped-call]


async def _on_paper(node: Redis, user: str, sample: Sample, names: Mapping[Kind, str]) -> bool:
    return bool(await _call(node, "ACL DRYRUN", user, *_filled(sample, names)) == b"OK")


async def _tried(redis: Redis, user: str) -> Row:
    """Each command on keys of no use. Says nothing of the queues' keys, which would be changed by it."""
    names = {kind: f"{SCRATCH}:{kind.name.lower()}" for kind in Kind}
    denied, keys_denied = [], False
    for sample in SAMPLES:
        if Kind.CHANNEL in sample:
            continue
        try:
            await _call(redis, *_filled(sample, names))
        except NoPermissionError as error:
            if "key" in str(error):
                keys_denied = True
            else:
                denied.append(str(sample[0]))
        except ResponseError:
            continue  # allowed, and refused for another reason: NOSCRIPT
    try:
        await redis.delete(*(names[kind] for kind in Kind if kind is not Kind.CHANNEL))
    except RedisError:
        keys_denied = True
    if denied:
        return Row.fail(NAME, f"{user} may not {listed(denied)}", f"ACL SETUSER {user} +{' +'.join(denied).lower()}")
    what = "keys" if keys_denied else "the queues' keys and channels"
    return Row.unknown(NAME, f"{user} may run all commands; whether on {what} isn't told", "allow +acl|dryrun to see")


def _advice(user: str, places: Places) -> str:
    commands = " ".join(f"+{sample[0]}".lower() for sample in SAMPLES)
    queues = " ".join(f"~{keys.queue} ~{{{keys.queue}}}:* &{{{keys.queue}}}:*" for keys in places.queues)
    server = "~{backend:*}:* &{backend:*}:*"
    return f"ACL SETUSER {user} {queues} ~{{pool:{places.pool.pool}}}:* {server} {commands}"
