"""What decisions remember: in memory exactly, in a status at most :data:`MOST_ENTRIES` of each kind.

Only proposals that can still be a window's highest or lowest are kept: an older one that a newer one equals or exceeds
on both sides can never matter again, whatever the windows are. So nothing is lost in memory. For a status, entries are
merged in a way that can only delay a scale-down: proposals and removals are taken as later than they were, additions
as earlier.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .readings import is_rate
from .rules import BothRules
from .types import History, Missing, Recommendation, ScaleEvent

MOST_ENTRIES = 32
LONGEST_PERIOD = 1800
"""Seconds: ``periodSeconds`` of a policy is at most this."""
_GRAIN = 5.0
"""Seconds to which times in a status are rounded at first: fewer distinct statuses, fewer writes."""

_RATE_GRAIN = 0.25
"""The part of a rate by which it must have moved to be worth a write."""


def seeded(history: History, current: int, now: float) -> History:
    """The first decision of all takes the present size for the last proposal, as HPA does."""
    if history.recommendations is not None:
        return history
    return replace(history, recommendations=(Recommendation(now, current),))


def remember(history: History, desired: int, now: float, rules: BothRules) -> History:
    """Add a raw proposal, and forget what no window or period of ``rules`` can reach any more."""
    # A clock that was set back would leave entries in the future: they count as of now.
    earlier = (Recommendation(min(r.at, now), r.replicas) for r in history.recommendations or ())
    recent = [r for r in earlier if now - r.at < rules.longest_window]
    return replace(
        history,
        recommendations=_extremes([*recent, Recommendation(now, desired)]),
        events=tuple(replace(e, at=min(e.at, now)) for e in history.events if now - e.at < rules.longest_period),
    )


def record_scale(history: History, now: float, change: int) -> History:
    """Add a change of the intended size, once it has happened."""
    if not change:
        return history
    # A clock that was set back would leave events in the future; and what no policy can reach is of no use.
    events = (replace(event, at=min(event.at, now)) for event in history.events if now - event.at < LONGEST_PERIOD)
    return replace(history, events=(*events, ScaleEvent(now, change)), scaled_at=now)


def watch_rate(history: History, rate: float | Missing) -> History:
    """Keep the last known rate of a busy worker: while nobody is busy, nobody tells one."""
    if isinstance(rate, Missing) or not is_rate(rate):
        return history
    return replace(history, rate=rate)


def resumed(history: History, current: int, now: float, rules: BothRules) -> History:
    """What a new process makes of the history that another left in a status.

    Nobody knows what was proposed since, so the newest proposal counts as of now, and the present size as one where no
    proposal within the window speaks for it. Emptiness has to be known anew. Blindness goes on: a time in which nobody
    read the metrics is one without them, and the fallback's way down is as long as any.
    """
    known = [Recommendation(min(r.at, now), r.replicas) for r in history.recommendations or ()]
    if known:
        known[-1] = replace(known[-1], at=now)
    if not any(r.replicas >= current and now - r.at < rules.down.window for r in known):
        known.append(Recommendation(now, current))
    events = tuple(replace(event, at=min(event.at, now)) for event in history.events)
    return History(
        _extremes(known),
        events,
        empty_since=None,
        blind_since=_not_after(history.blind_since, now),
        scaled_at=_not_after(history.scaled_at, now),
        rate=history.rate,
    )


def _not_after(at: float | None, now: float) -> float | None:
    return None if at is None else min(at, now)


def _extremes(entries: Sequence[Recommendation]) -> tuple[Recommendation, ...]:
    """Oldest first in and out: those that are above all newer ones, or below all newer ones."""
    kept: list[Recommendation] = []
    highest, lowest = -math.inf, math.inf
    for entry in reversed(entries):
        if entry.replicas > highest or entry.replicas < lowest:
            kept.append(entry)
        highest, lowest = max(highest, entry.replicas), min(lowest, entry.replicas)
    return tuple(reversed(kept))


def to_dict(history: History) -> dict[str, Any]:
    """For a status: camelCase, times in Unix seconds."""
    document: dict[str, Any] = {
        "events": [{"at": round(e.at, 3), "change": e.change} for e in _few_events(history.events)]
    }
    if history.recommendations is not None:
        few = _few_recommendations(history.recommendations)
        document["recommendations"] = [{"at": round(r.at, 3), "replicas": r.replicas} for r in few]
    for name, at in (
        ("emptySince", history.empty_since),
        ("blindSince", history.blind_since),
        ("scaledAt", history.scaled_at),
    ):
        if at is not None:
            document[name] = round(at, 3)
    if history.rate is not None:
        document["rate"] = float(f"{history.rate:.3g}")
    return document


def from_dict(document: Mapping[str, Any] | None) -> History:
    """The inverse of :func:`to_dict`. What can't be read counts as no history at all: the first decision seeds it."""
    if not document:
        return History()
    try:
        recommendations = document.get("recommendations")
        return History(
            recommendations=None
            if recommendations is None
            else tuple(Recommendation(float(r["at"]), int(r["replicas"])) for r in recommendations),
            events=tuple(ScaleEvent(float(e["at"]), int(e["change"])) for e in document.get("events") or ()),
            empty_since=_number(document.get("emptySince")),
            blind_since=_number(document.get("blindSince")),
            scaled_at=_number(document.get("scaledAt")),
            rate=_number(document.get("rate")),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return History()


def _number(value: Any) -> float | None:
    """A time or a rate: finite and above zero, or absent."""
    if value is None:
        return None
    if not is_rate(number := float(value)):
        raise ValueError(f"got {number}")
    return number


def worth_writing(written: Mapping[str, Any] | None, new: Mapping[str, Any]) -> bool:
    """Whether a status that holds ``written`` should be rewritten for ``new`` (both from :func:`to_dict`).

    Not for the time of the newest proposal alone: it moves all the time, and :func:`resumed` takes it as now anyway.
    Nor for a rate that has moved a little.
    """
    if written is None or _rate_moved(written.get("rate"), new.get("rate")):
        return True
    return _without_newest_time(written) != _without_newest_time(new)


def _rate_moved(written: float | None, new: float | None) -> bool:
    if written is None or new is None:
        return written is not new
    return abs(new - written) > _RATE_GRAIN * abs(written)


def _without_newest_time(document: Mapping[str, Any]) -> dict[str, Any]:
    recommendations = document.get("recommendations") or ()
    newest = recommendations[-1]["at"] if recommendations else None
    timeless = [{**r, "at": None} if r["at"] == newest else r for r in recommendations]
    return {**document, "recommendations": timeless, "rate": None}


def _few_recommendations(entries: Sequence[Recommendation]) -> tuple[Recommendation, ...]:
    grain = _GRAIN
    while len(few := _extremes(_later(entries, grain))) > MOST_ENTRIES:
        grain *= 2
    return few


def _later(entries: Iterable[Recommendation], grain: float) -> list[Recommendation]:
    """Lowest and highest of each span of ``grain`` seconds as of its end: they stay in their windows for longer."""
    spans: dict[float, tuple[int, int]] = {}
    for entry in entries:
        end = math.ceil(entry.at / grain) * grain
        lowest, highest = spans.get(end, (entry.replicas, entry.replicas))
        spans[end] = min(lowest, entry.replicas), max(highest, entry.replicas)
    # The highest comes last: it is the one that a resumed history takes for the newest.
    return [Recommendation(end, replicas) for end, both in sorted(spans.items()) for replicas in both]


def _few_events(events: Sequence[ScaleEvent]) -> tuple[ScaleEvent, ...]:
    grain = 0.0
    while len(events) > MOST_ENTRIES:
        grain = grain * 2 or _GRAIN
        events = _merged(events, grain)
    return tuple(events)


def _merged(events: Sequence[ScaleEvent], grain: float) -> list[ScaleEvent]:
    """Sums per span of ``grain`` seconds: removals as of its end, additions as of its start, neither set off."""
    removed: dict[float, int] = {}
    added: dict[float, int] = {}
    for event in events:
        span = math.ceil(event.at / grain) * grain
        if event.change < 0:
            removed[span] = removed.get(span, 0) + event.change
        else:
            added[span - grain] = added.get(span - grain, 0) + event.change
    merged = [ScaleEvent(at, change) for table in (removed, added) for at, change in table.items()]
    return sorted(merged, key=lambda event: (event.at, event.change))
