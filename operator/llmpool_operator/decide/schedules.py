"""Bounds by the clock: which of ``schedules`` rules now.

A schedule rules from each minute that its ``cron`` fires on until another one fires; where two fire at once, the later
in the list. Cron's meaning, also around a change of the clocks, is Debian's (the library ``cronsim``): a time that a
change skips fires right after it, a time that comes twice fires the first time only.
"""

from __future__ import annotations

import math
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from llmpool_contract.pool import Scaling, Schedule

from .types import Bounds

_TWICE = 3 * 3600
"""Seconds that the clocks are set back at most: how long a local time may be behind one that has fired already."""


def bounds_at(scaling: Scaling, now: float) -> Bounds:
    """minReplicas and maxReplicas as they are at ``now``, Unix seconds.

    Raises:
        ValueError: a schedule can't be read (:func:`fault_in_schedules` tells that beforehand).
    """
    latest: tuple[float, int] | None = None
    for index, schedule in enumerate(scaling.schedules):
        fired = _firings(schedule.cron, schedule.timezone).last(now)
        if fired is not None and (latest is None or (fired, index) > latest):
            latest = fired, index
    if latest is None:
        return Bounds(scaling.min_replicas, scaling.max_replicas)
    ruling = scaling.schedules[latest[1]]
    return Bounds(
        scaling.min_replicas if ruling.min_replicas is None else ruling.min_replicas,
        scaling.max_replicas if ruling.max_replicas is None else ruling.max_replicas,
        f"schedules[{latest[1]}]",
    )


def fault_in_schedules(scaling: Scaling) -> str | None:
    """Why a schedule can't be read, with its field's path from ``spec``, or None."""
    for index, schedule in enumerate(scaling.schedules):
        if fault := _fault_in(schedule):
            return f"scaling.schedules[{index}].{fault}"
    return None


def _fault_in(schedule: Schedule) -> str | None:
    try:
        _firings(schedule.cron, schedule.timezone)
    except ValueError as error:
        return str(error)
    return None


class _Firings:
    """When one cron expression fires. Searches once per firing, however often it is asked."""

    def __init__(self, cron: str, timezone: str) -> None:
        self._cron = cron
        self._zone = _zone(timezone)
        self._known: tuple[float, float, float | None] = (math.inf, -math.inf, None)
        """From when until when the last firing is the one that comes third."""
        try:
            CronSim(cron, datetime.fromtimestamp(0, self._zone))
        except CronSimError as error:
            raise ValueError(f"cron: got {cron!a}, wanted five fields that can fire: {error}") from None

    def last(self, now: float) -> float | None:
        """The latest firing at or before ``now``, Unix seconds. None: none within fifty years."""
        since, until, fired = self._known
        if not since <= now < until:
            fired, following = self._before(now), self._after(now)
            self._known = (now if fired is None else fired, math.inf if following is None else following, fired)
        return fired

    def _before(self, now: float) -> float | None:
        # CronSim walks in local time without the clocks' changes: start late enough, and leave out what is to come.
        start = datetime.fromtimestamp(math.floor(now) + _TWICE, self._zone)
        for fired in CronSim(self._cron, start, reverse=True):
            if fired.timestamp() <= now:
                return fired.timestamp()
        return None

    def _after(self, now: float) -> float | None:
        for fires in CronSim(self._cron, datetime.fromtimestamp(math.floor(now), self._zone)):
            if fires.timestamp() > now:
                return fires.timestamp()
        return None


@lru_cache(maxsize=8192)
def _firings(cron: str, timezone: str) -> _Firings:
    return _Firings(cron, timezone)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown; not a name; a folder of the time zone database
        raise ValueError(f"timezone: got {name!a}, wanted an IANA name such as Europe/Berlin") from None
