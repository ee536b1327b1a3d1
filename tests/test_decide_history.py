"""What decisions remember: exact in memory, small in a status, and never a reason to shrink earlier."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpool_contract.pool import Behavior
from llmpool_operator.decide import from_dict, record_scale, resumed, rules_of, to_dict, worth_writing
from llmpool_operator.decide.history import MOST_ENTRIES, remember
from llmpool_operator.decide.limits import scale_down_limit
from llmpool_operator.decide.rules import BothRules
from llmpool_operator.decide.stabilize import stabilize
from llmpool_operator.decide.types import History, Recommendation, ScaleEvent

START = 1_700_000_000.0
LONG = rules_of(
    Behavior.model_validate(
        {
            "scaleUp": {"stabilizationWindowSeconds": 900},
            "scaleDown": {
                "stabilizationWindowSeconds": 3600,
                "policies": [{"type": "Pods", "value": 3, "periodSeconds": 1800}],
            },
        }
    )
)
steps = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 200)), max_size=120)
"""(seconds since the step before, proposal)"""


def lived(taken: list[tuple[int, int]], rules: BothRules = LONG) -> tuple[History, list[Recommendation], float]:
    """A history that went through the steps, all that it was told, and the time."""
    history, told, now = History(()), [], START
    for wait, replicas in taken:
        now += wait
        history = remember(history, replicas, now, rules)
        told.append(Recommendation(now, replicas))
    return history, told, now


@given(steps, st.integers(0, 200), st.integers(0, 200), st.integers(0, 4000))
def test_nothing_that_matters_is_forgotten(
    taken: list[tuple[int, int]], current: int, desired: int, later: int
) -> None:
    """The few proposals that are kept stabilise any size exactly as all of them would."""
    history, told, now = lived(taken)
    kept = history.recommendations or ()
    at = now + later
    assert stabilize(LONG, current, desired, kept, at) == stabilize(LONG, current, desired, told, at)


@given(steps, st.integers(0, 200), st.integers(0, 200), st.integers(0, 4000))
def test_a_restart_never_shrinks_the_pool_earlier(
    taken: list[tuple[int, int]], current: int, desired: int, later: int
) -> None:
    """After a way through a status, whenever it is read, the down window allows no smaller size than before it."""
    history, told, now = lived(taken)
    at = now + later
    again = resumed(from_dict(json.loads(json.dumps(to_dict(history)))), current, at, LONG)
    before = stabilize(LONG, current, min(desired, current), told, at).replicas
    after = stabilize(LONG, current, min(desired, current), again.recommendations or (), at).replicas
    assert after >= before


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(-9, 9).filter(bool)), max_size=120), st.integers(0, 2000))
def test_events_of_a_status_never_allow_more_removals(taken: list[tuple[int, int]], later: int) -> None:
    """Merging scale events keeps removals for longer and additions for less long, so the rate down is never higher."""
    history, now = History(()), START
    for wait, change in taken:
        now += wait
        history = record_scale(history, now, change)
    document = to_dict(history)
    again = from_dict(document)
    assert len(document["events"]) <= MOST_ENTRIES
    assert sum(e.change for e in again.events) == sum(e.change for e in history.events)
    for at in (now, now + later):
        assert scale_down_limit(LONG.down, 50, again.events, at) >= scale_down_limit(LONG.down, 50, history.events, at)


@given(steps)
def test_a_status_stays_small(taken: list[tuple[int, int]]) -> None:
    """At most 32 proposals, however long the windows and however restless the queue."""
    history, _, _ = lived(taken)
    assert len(to_dict(history)["recommendations"]) <= MOST_ENTRIES


def test_a_falling_queue_of_an_hour_fits() -> None:
    """The worst case, where every proposal is below all before it and so still matters."""
    history, told, now = lived([(30, 200 - i) for i in range(119)])
    assert len(history.recommendations or ()) == 119
    document = to_dict(history)
    assert len(document["recommendations"]) <= MOST_ENTRIES
    again = resumed(from_dict(document), 200, now, LONG)
    assert stabilize(LONG, 200, 1, again.recommendations or (), now).replicas == 200
    assert told[0].replicas == 200


def test_old_entries_go() -> None:
    """What no window and no period can reach any more is forgotten."""
    default = rules_of(None)
    history = record_scale(remember(History(()), 9, START, default), START, 9)
    assert remember(history, 1, START + 14.9, default).events
    history = remember(history, 1, START + 300, default)
    assert history.recommendations == (Recommendation(START + 300, 1),)
    assert history.events == ()


def test_a_steady_pool_writes_nothing() -> None:
    """The newest proposal's time alone is no reason to write; another proposal, or an event, is."""
    first, _, now = lived([(1, 4)])
    later = to_dict(remember(first, 4, now + 60, LONG))
    assert later != to_dict(first)
    assert not worth_writing(to_dict(first), later)
    assert worth_writing(to_dict(first), to_dict(remember(first, 9, now + 1, LONG)))
    assert worth_writing(to_dict(first), to_dict(record_scale(first, now, 2)))
    assert worth_writing(None, later)


def test_a_resumed_history_takes_the_newest_proposal_as_present() -> None:
    """The status may be as old as the newest proposal is steady: 10 was proposed until just now, for all one knows."""
    default = rules_of(None)
    left = History((Recommendation(START, 10),), (), empty_since=START)
    again = resumed(left, 10, START + 5000, default)
    assert again.recommendations == (Recommendation(START + 5000, 10),)
    assert again.empty_since is None


def test_a_resumed_history_keeps_the_time_of_older_proposals() -> None:
    """A pool that was to shrink in a minute shrinks in a minute, restart or not."""
    default = rules_of(None)
    left = History((Recommendation(START, 10), Recommendation(START + 240, 2)))
    again = resumed(left, 10, START + 240, default)
    assert stabilize(default, 10, 2, again.recommendations or (), START + 299).replicas == 10
    assert stabilize(default, 10, 2, again.recommendations or (), START + 300).replicas == 2


def test_a_clock_that_was_set_back_holds_no_longer_than_a_window() -> None:
    """Entries of the future count as of now."""
    default = rules_of(None)
    history = remember(History((Recommendation(START + 99_999, 10),)), 2, START, default)
    assert stabilize(default, 10, 2, history.recommendations or (), START + 300).replicas == 2


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(None, id="none"),
        pytest.param({}, id="empty"),
        pytest.param({"recommendations": [{"at": 1}]}, id="half-an-entry"),
        pytest.param({"recommendations": [{"at": "x", "replicas": 1}]}, id="not-a-time"),
        pytest.param({"events": 7}, id="not-a-list"),
        pytest.param({"rate": -1}, id="not-a-rate"),
        pytest.param({"blindSince": "nan"}, id="not-a-number"),
    ],
)
def test_what_cannot_be_read_is_no_history(document: object) -> None:
    """A status that somebody has edited badly makes the next decision the first one, which holds the present size."""
    assert from_dict(document) == History()  # type: ignore[arg-type]


def test_there_and_back() -> None:
    """A small history survives its way through a status, times rounded up to 5 s."""
    history = History(
        (Recommendation(START, 3),), (ScaleEvent(START + 1, 2),), START + 2, START + 3, scaled_at=START + 1, rate=0.25
    )
    assert from_dict(to_dict(history)) == history


def test_a_rate_is_written_when_it_has_moved() -> None:
    """Rates tremble; a status follows them in steps of a quarter."""
    first = to_dict(History((), rate=1.0))
    assert not worth_writing(first, to_dict(History((), rate=1.2)))
    assert not worth_writing(first, to_dict(History((), rate=0.8)))
    assert worth_writing(first, to_dict(History((), rate=1.3)))
    assert worth_writing(first, to_dict(History(())))
    assert worth_writing(to_dict(History(())), first)


def test_the_last_change_is_remembered_longer_than_its_event() -> None:
    """What a GPU's sample is judged by outlives the policies' periods, and a restart."""
    default = rules_of(None)
    history = record_scale(History(()), START, 3)
    history = remember(history, 3, START + 100, default)
    assert (history.events, history.scaled_at) == ((), START)
    assert resumed(from_dict(to_dict(history)), 3, START + 200, default).scaled_at == START


def test_events_after_a_clock_was_set_back_end_in_time() -> None:
    """They count as of the new present: a rate policy is used up for its period, not for the hour that was repeated."""
    history = record_scale(History(()), START + 3600, 4)
    history = remember(history, 4, START, LONG)
    assert [event.at for event in history.events] == [START]
    assert remember(history, 4, START + 1800, LONG).events == ()


def test_changes_by_hand_alone_do_not_pile_up() -> None:
    """A pool whose size is set by hand makes no proposals, and still forgets what no policy can reach."""
    history = History(())
    for hour in range(10):
        history = record_scale(history, START + 3600 * hour, 1)
    assert len(history.events) == 1
