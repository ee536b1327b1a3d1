"""Bounds by the clock: which schedule rules, around changes of the clocks too, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from llmpool_contract.pool import LLMWorkerPoolSpec, Scaling
from llmpool_operator.decide import bounds_at, decide, fault_in_schedules
from llmpool_operator.decide.schedules import _Firings
from llmpool_operator.decide.types import Bounds, History, Observation, QueueBacklog, Reason

DAY = [
    {"cron": "0 8 * * 1-5", "timezone": "Europe/Berlin", "minReplicas": 4},
    {"cron": "0 18 * * 1-5", "timezone": "Europe/Berlin", "minReplicas": 1, "maxReplicas": 5},
    {"cron": "0 18 * * 5", "timezone": "Europe/Berlin", "minReplicas": 0, "maxReplicas": 2},
]


def scaling(schedules: list[dict[str, Any]], **more: Any) -> Scaling:
    return Scaling.model_validate({"minReplicas": 0, "maxReplicas": 10, "schedules": schedules, **more})


def at(text: str, zone: str = "Europe/Berlin") -> float:
    """Unix seconds of a local time."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("when", "bounds"),
    [
        pytest.param("2026-03-02T07:59:59.9", Bounds(0, 2, "schedules[2]"), id="the-weekend-rules-until-it-fires"),
        pytest.param("2026-03-02T08:00", Bounds(4, 10, "schedules[0]"), id="at-the-very-second"),
        pytest.param("2026-03-02T17:59", Bounds(4, 10, "schedules[0]"), id="all-day"),
        pytest.param("2026-03-02T18:00", Bounds(1, 5, "schedules[1]"), id="evening"),
        pytest.param("2026-03-06T18:00", Bounds(0, 2, "schedules[2]"), id="at-once-the-last-of-the-list"),
        pytest.param("2026-03-08T12:00", Bounds(0, 2, "schedules[2]"), id="sunday"),
        pytest.param("2026-07-01T08:00", Bounds(4, 10, "schedules[0]"), id="summer-time"),
    ],
)
def test_the_latest_fired_rules(when: str, bounds: Bounds) -> None:
    """Until another one fires. A bound that it doesn't have is that of ``scaling``, not of the schedule before."""
    assert bounds_at(scaling(DAY), at(when)) == bounds


def test_without_schedules_the_bounds_are_those_of_scaling() -> None:
    """Whatever the time."""
    assert bounds_at(scaling([]), 0) == Bounds(0, 10, "scaling")


@pytest.mark.parametrize(
    ("cron", "when", "fired"),
    [
        pytest.param("30 2 * * *", "2026-03-29T01:00:00+00:00", "2026-03-29T01:00:00+00:00", id="skipped-fires-after"),
        pytest.param("30 2 * * *", "2026-03-29T00:59:59+00:00", "2026-03-28T01:30:00+00:00", id="and-not-before"),
        pytest.param("30 2 * * *", "2026-10-25T00:45:00+00:00", "2026-10-25T00:30:00+00:00", id="twice-fires-first"),
        pytest.param("30 2 * * *", "2026-10-25T01:15:00+00:00", "2026-10-25T00:30:00+00:00", id="while-it-comes-again"),
        pytest.param("30 2 * * *", "2026-10-25T01:45:00+00:00", "2026-10-25T00:30:00+00:00", id="not-a-second-time"),
        pytest.param("*/30 * * * *", "2026-10-25T01:45:00+00:00", "2026-10-25T01:30:00+00:00", id="a-step-goes-on"),
        pytest.param("0 0 29 2 *", "2026-06-01T00:00:00+00:00", "2024-02-28T23:00:00+00:00", id="leap-days"),
    ],
)
def test_changes_of_the_clocks(cron: str, when: str, fired: str) -> None:
    """Berlin skips 2 to 3 o'clock on 29 March 2026 and has it twice on 25 October."""
    firings = _Firings(cron, "Europe/Berlin")
    assert firings.last(datetime.fromisoformat(when).timestamp()) == datetime.fromisoformat(fired).timestamp()


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["0 8 * * 1-5", "30 2 * * *", "15 1,2,3 * * *", "*/20 2 * * *", "5 */3 * * SUN", "0 0 1 * *"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
    st.lists(st.integers(0, 400 * 86_400), min_size=1, max_size=8),
)
def test_the_search_back_finds_what_the_search_forward_passed(cron: str, zone: str, offsets: list[int]) -> None:
    """Whatever is asked before: what is remembered between firings never changes an answer."""
    firings = _Firings(cron, zone)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for offset in offsets:
        now = start + timedelta(seconds=offset)
        expected = None
        for fires in CronSim(cron, (now - timedelta(days=40)).astimezone(ZoneInfo(zone))):
            if fires > now:
                break
            expected = fires.timestamp() if expected is None else max(expected, fires.timestamp())
        assert firings.last(now.timestamp()) == expected


@pytest.mark.parametrize(
    ("schedule", "fault"),
    [
        pytest.param({"cron": "0 0 30 2 *"}, "schedules[1].cron: got '0 0 30 2 *', wanted five", id="never"),
        pytest.param({"timezone": "Mars/Olympus"}, "schedules[1].timezone: got 'Mars/Olympus'", id="timezone"),
        pytest.param({"timezone": "Europe"}, "schedules[1].timezone: got 'Europe'", id="a-folder-of-timezones"),
        pytest.param({"timezone": "/etc/passwd"}, "schedules[1].timezone: got '/etc/passwd'", id="not-a-name"),
    ],
)
def test_what_can_not_be_read_is_named(schedule: dict[str, Any], fault: str) -> None:
    """Field, what was given and what is allowed, before any decision is made."""
    wrong = {"cron": "0 8 * * *", "minReplicas": 1, **schedule}
    found = fault_in_schedules(scaling([DAY[0], wrong]))
    assert found is not None
    assert found.startswith(f"scaling.{fault}")
    assert fault_in_schedules(scaling(DAY)) is None


@given(st.from_regex(r"\A[0-9A-Za-z*/,#?L-]{1,4}( [0-9A-Za-z*/,#?L-]{1,4}){4}\Z"))
def test_any_cron_is_read_or_refused(cron: str) -> None:
    """Nothing that the document lets pass makes the parser fall over."""
    try:
        wanted = scaling([{"cron": cron, "minReplicas": 1}])
    except ValidationError:
        return  # refused with the document itself
    if fault_in_schedules(wanted) is None:
        bounds_at(wanted, at("2026-03-02T08:00"))


def decided(current: int, ready: int, when: str) -> tuple[int, Reason]:
    spec = LLMWorkerPoolSpec(
        queues=[{"name": "q"}],  # type: ignore[list-item]
        redis={"url": "redis://r"},  # type: ignore[arg-type]
        scaling=scaling(DAY),
    )
    seen = Observation(at(when), {"q": QueueBacklog(ready, 0, 0, None)})
    decision = decide(spec, current, seen, History((), empty_since=0.0), at(when))
    return decision.replicas, decision.reason


@pytest.mark.parametrize(
    ("current", "ready", "when", "outcome"),
    [
        pytest.param(0, 0, "2026-03-02T08:00", (4, Reason.TOO_FEW_REPLICAS), id="warm-before-the-day-begins"),
        pytest.param(2, 0, "2026-03-02T08:00", (4, Reason.TOO_FEW_REPLICAS), id="up-to-the-minimum"),
        pytest.param(8, 100, "2026-03-02T18:00", (5, Reason.TOO_MANY_REPLICAS), id="down-to-the-maximum"),
        pytest.param(3, 100, "2026-03-02T18:00", (5, Reason.TOO_MANY_REPLICAS), id="no-further-than-the-maximum"),
        pytest.param(4, 0, "2026-03-02T12:00", (4, Reason.TOO_FEW_REPLICAS), id="idle-but-by-day"),
        pytest.param(2, 0, "2026-03-07T12:00", (0, Reason.IDLE_TO_ZERO), id="idle-at-the-weekend"),
    ],
)
def test_schedules_rule_short_cuts_limits_and_zero(
    current: int, ready: int, when: str, outcome: tuple[int, Reason]
) -> None:
    """The effective bounds are the bounds everywhere."""
    assert decided(current, ready, when) == outcome
