"""What a Redis server's own words mean for a queue. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from .rows import Row

OLDEST = (6, 2)
"""The first with BLMOVE."""
SLOW_S = 0.02
"""Each claim and each settlement is a round trip."""
SKEWED_S = 1.0
"""Deadlines are judged by Redis' clock and mostly set by somebody else's."""
_FULL = 0.9


@dataclass(frozen=True, slots=True)
class ServerReading:
    """What one server said. None: it didn't, or wasn't allowed to."""

    info: Mapping[str, Any] | None
    save: str | None
    """Its rules for snapshots, as CONFIG GET has them; empty: none."""
    round_trips_s: Sequence[float]
    skew_s: float | None
    """Its clock ahead of this host's, seconds."""


def judge_server(label: str, reading: ServerReading, *, as_cluster: bool) -> list[Row]:
    """All rows about one server. ``label`` tells it from others of a cluster."""
    rows = [_latency(label, reading.round_trips_s), _clock(label, reading.skew_s)]
    if reading.info is None:
        advice = "allow INFO: +info"
        names = ("version", "role", "memory", "persistence")
        return [*rows, *(Row.unknown(f"{label} {name}", "INFO isn't allowed", advice) for name in names)]
    info = reading.info
    rows += [_version(label, info), _role(label, info), _memory(label, info), _persistence(label, info, reading.save)]
    if info.get("cluster_enabled") == 1 and not as_cluster:
        rows.append(
            Row.fail(f"{label} mode", "a node of a cluster, asked as a single server", "REDIS_URL: redis+cluster://...")
        )
    return rows


def _latency(label: str, round_trips_s: Sequence[float]) -> Row:
    name = f"{label} latency"
    if not round_trips_s:
        return Row.unknown(name, "no answer was timed")
    found = f"{median(round_trips_s) * 1_000:.1f} ms a round trip"
    if median(round_trips_s) > SLOW_S:
        return Row.warn(name, found, "run workers near Redis: each job takes a few round trips")
    return Row.ok(name, found)


def _clock(label: str, skew_s: float | None) -> Row:
    name = f"{label} clock"
    if skew_s is None:
        return Row.unknown(name, "no answer to TIME")
    found = f"{abs(skew_s):.3f} s {'ahead of' if skew_s >= 0 else 'behind'} this host's"
    if abs(skew_s) > SKEWED_S:
        return Row.warn(name, found, "set both clocks by NTP: deadlines are judged by Redis' clock")
    return Row.ok(name, found)


def _version(label: str, info: Mapping[str, Any]) -> Row:
    name, said = f"{label} version", str(info.get("redis_version", ""))
    found = re.match(r"(\d+)\.(\d+)", said)
    if found is None:
        return Row.unknown(name, "not told")
    shown = f"{said} (Valkey {info['valkey_version']})" if "valkey_version" in info else said
    if (int(found[1]), int(found[2])) < OLDEST:
        return Row.fail(name, shown, f"wanted {OLDEST[0]}.{OLDEST[1]} or newer, the first with BLMOVE")
    return Row.ok(name, shown)


def _role(label: str, info: Mapping[str, Any]) -> Row:
    name, role = f"{label} role", info.get("role")
    if role is None:
        return Row.unknown(name, "not told")
    if role != "master":
        return Row.fail(name, str(role), "give the master's address, or the Sentinels': redis+sentinel://...")
    return Row.ok(name, f"master, {info.get('connected_slaves', 'unknown')} replicas")


def _memory(label: str, info: Mapping[str, Any]) -> Row:
    """An eviction takes jobs and leases like any other key."""
    name = f"{label} memory"
    policy, limit, used = (info.get(key) for key in ("maxmemory_policy", "maxmemory", "used_memory"))
    if policy is None or limit is None or used is None:
        return Row.unknown(name, "not told")
    found = f"{policy}, {used / 2**20:.0f} of {f'{limit / 2**20:.0f}' if limit else 'unlimited'} MiB"
    if policy != "noeviction":
        advice = "maxmemory-policy noeviction: any other lets Redis drop jobs"
        return Row.fail(name, found, advice) if limit else Row.warn(name, found, f"{advice}, once maxmemory is set")
    if limit and used > _FULL * limit:
        return Row.warn(name, found, "raise maxmemory: at the limit producers are refused")
    return Row.ok(name, found)


def _persistence(label: str, info: Mapping[str, Any], save: str | None) -> Row:
    name, aof = f"{label} persistence", info.get("aof_enabled")
    advice = "appendonly yes: a restart then loses a second of jobs at most"
    if aof is None:
        return Row.unknown(name, "not told")
    if aof:
        if info.get("aof_last_write_status") != "ok":
            return Row.fail(name, "append-only file, and its last write failed", "look at Redis' disk and log")
        return Row.ok(name, "append-only file")
    if save is None:
        return Row.unknown(name, "no append-only file; whether there are snapshots isn't told", advice)
    if not save:
        return Row.warn(name, "none: a restart loses all jobs", advice)
    if info.get("rdb_last_bgsave_status") != "ok":
        return Row.fail(name, "snapshots alone, and the last one failed", "look at Redis' disk and log")
    return Row.warn(name, f"snapshots alone (save {save}): a restart loses what came after the last", advice)
