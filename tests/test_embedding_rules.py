"""The pure parts of shared embedding calls: whose inputs are next, and which of a failed call's are the bad ones."""

from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpool_worker.embedding_line import Line
from llmpool_worker.embedding_search import failures_of_one, search


def test_jobs_go_in_their_order_and_share_calls() -> None:
    """Inputs keep their order within a job, jobs that of their arrival; a job may end in one call and begin another."""
    line: Line[str] = Line(4)
    for job, inputs in {"a": 3, "b": 2, "c": 1}.items():
        line.add(job, inputs, now=0.0)
    assert line.take() == [("a", 0), ("a", 1), ("a", 2), ("b", 0)]
    assert line.take() == [("b", 1), ("c", 0)]
    assert (line.take(), len(line)) == ([], 0)


def test_a_long_job_holds_a_short_one_up_for_one_call() -> None:
    """A job of a hundred calls gives one call's worth, then it is the turn of those who came after."""
    line: Line[str] = Line(4)
    line.add("long", 400, now=0.0)
    line.add("short", 1, now=0.0)
    assert {job for job, _ in line.take()} == {"long"}
    assert line.take() == [("short", 0), ("long", 4), ("long", 5), ("long", 6)]


def test_a_job_that_wants_to_be_alone_is() -> None:
    """It neither fills up another's call nor lets another fill up its own, and nothing is overtaken."""
    line: Line[str] = Line(4)
    line.add("a", 1, now=0.0)
    line.add("alone", 2, now=0.0, alone=True)
    line.add("b", 1, now=0.0)
    assert [line.take(), line.take(), line.take()] == [[("a", 0)], [("alone", 0), ("alone", 1)], [("b", 0)]]


@pytest.mark.parametrize(
    ("inputs", "alone", "more_expected", "due"),
    [
        pytest.param(1, False, True, 10.005, id="others-may-join"),
        pytest.param(1, False, False, 10.001, id="nobody-else-comes"),
        pytest.param(4, False, True, 10.001, id="full"),
        pytest.param(1, True, True, 10.001, id="nobody-may-join"),
    ],
)
def test_when_a_call_is_due(inputs: int, alone: bool, more_expected: bool, due: float) -> None:
    """Only a call that others may still join waits for them, and it waits from its first input."""
    line: Line[str] = Line(4)
    line.add("a", inputs, now=10.0, alone=alone)
    assert line.due(10.001, 0.005, more_expected=more_expected) == pytest.approx(due)


def test_waiting_for_company_ends() -> None:
    """Whoever waited its time, or was left behind by a full call, is due at once."""
    line: Line[str] = Line(4)
    line.add("a", 5, now=10.0)
    line.take()
    assert line.due(11.0, 0.005, more_expected=True) == 11.0


def test_each_newcomer_does_not_begin_the_wait_anew() -> None:
    """The first one of a call waits its time and no longer, however many come after."""
    line: Line[str] = Line(4)
    line.add("a", 1, now=10.0)
    line.add("b", 1, now=10.003)
    assert line.due(10.003, 0.005, more_expected=True) == pytest.approx(10.005)


@given(
    size=st.integers(1, 6),
    jobs=st.lists(st.tuples(st.integers(1, 15), st.booleans(), st.booleans()), max_size=12),
)
def test_every_input_is_taken_once(size: int, jobs: list[tuple[int, bool, bool]]) -> None:
    """Each input of a job that stays goes out exactly once and in order, no call is too big, and none is empty."""
    line: Line[int] = Line(size)
    for job, (inputs, alone, _) in enumerate(jobs):
        line.add(job, inputs, now=0.0, alone=alone)
    for job, (_, _, leaves) in enumerate(jobs):
        if leaves:
            line.leave(job)
            line.leave(job)
    taken: list[tuple[int, int]] = []
    while line:
        call = line.take()
        assert 1 <= len(call) <= size
        assert len({job for job, _ in call}) == 1 or not any(jobs[job][1] for job, _ in call)
        taken += call
    assert len(line) == 0
    for job, (inputs, _, leaves) in enumerate(jobs):
        assert [index for of, index in taken if of == job] == ([] if leaves else list(range(inputs)))


def searched(bad: list[bool]) -> tuple[list[bool | None], list[slice]]:
    """What a search finds for each input, and the ranges that failed."""
    steps, failed = search(0, len(bad)), None
    found: list[bool | None] = [None] * len(bad)
    asked: list[slice] = []
    while True:
        try:
            part = steps.send(failed)
        except StopIteration:
            return found, asked
        failed = any(bad[part])
        asked.append(part)
        if not failed or part.stop - part.start == 1:
            for index in range(part.start, part.stop):
                assert found[index] is None
                found[index] = failed


@given(bad=st.lists(st.booleans(), min_size=1, max_size=70))
def test_bad_inputs_are_found_in_few_calls(bad: list[bool]) -> None:
    """Every input is told apart, in at most 1 + 2 k ceil(log2 n) calls for k bad ones of n, and never in 2 n."""
    found, asked = searched(bad)
    n, k = len(bad), sum(bad)
    assert found == bad
    assert len(asked) <= min(1 + 2 * k * ceil(log2(n)), 2 * n - 1)


@pytest.mark.parametrize(
    ("bad", "calls"),
    [
        pytest.param([False] * 7 + [True], 5, id="the-last"),
        pytest.param([True] + [False] * 7, 7, id="the-first"),
        pytest.param([True] * 8, 12, id="all"),
    ],
)
def test_what_is_known_is_not_asked(bad: list[bool], calls: int) -> None:
    """After a good left half, or one that is bad through and through, the right one isn't asked as a whole."""
    assert len(searched(bad)[1]) == calls


@pytest.mark.parametrize("n", [1, 2, 3, 10, 64, 100])
def test_how_often_one_bad_input_fails(n: int) -> None:
    """A single bad input explains no more than 1 + ceil(log2 n) failures, wherever it is."""
    for at in range(n):
        _, asked = searched([index == at for index in range(n)])
        assert sum(part.start <= at < part.stop for part in asked) <= failures_of_one(n)


def test_a_range_that_nobody_wants_is_passed_over() -> None:
    """It proves nothing about its neighbours: they are asked as a whole."""
    steps = search(0, 4)
    assert steps.send(None) == slice(0, 4)
    assert steps.send(True) == slice(0, 2)
    assert steps.send(None) == slice(2, 4)
    with pytest.raises(StopIteration):
        steps.send(False)
