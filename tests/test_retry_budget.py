"""The retry budget: retries stay a part of the work, whatever happens, and a quiet worker still retries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpool_worker.retry_budget import WINDOW_S, RetryBudget
from llmpool_worker.windows import BUCKETS

STEPS = st.lists(
    st.tuples(st.sampled_from(["job", "retry", "retry", "retry"]), st.sampled_from([0.0, 0.01, 0.5, 1.0, 20.0, 59.0])),
    max_size=300,
)


@given(steps=STEPS, ratio=st.sampled_from([0.0, 0.2, 0.5, 1.0]), floor=st.sampled_from([0.0, 0.1, 2.0]))
def test_retries_stay_within_the_budget(steps: list[tuple[str, float]], ratio: float, floor: float) -> None:
    """Over any sequence: retries <= ratio * jobs + floor * (time + window), the window longer by one bucket."""
    budget, now, jobs, retries = RetryBudget(ratio, floor), 0.0, 0, 0
    for what, later_s in steps:
        now += later_s
        if what == "job":
            budget.deposit(now)
            jobs += 1
        else:
            retries += budget.allow(now)
        assert retries <= ratio * jobs + floor * (now + WINDOW_S * (1 + 1 / BUCKETS)) + 1e-6


@given(steps=STEPS)
def test_a_refused_retry_may_go_after_the_hint(steps: list[tuple[str, float]]) -> None:
    """Waiting as long as it says, again where it says so again, always ends with a retry, within a window."""
    budget, now = RetryBudget(0.2, 0.1), 0.0
    for what, later_s in steps:
        now += later_s
        if what == "job":
            budget.deposit(now)
        elif not budget.allow(now):
            refused_at = now
            while not budget.allow(now):
                assert budget.wait_s(now) > 0
                now += budget.wait_s(now)
            assert now - refused_at <= WINDOW_S


def test_a_fifth_of_the_jobs_may_be_retried() -> None:
    """Exactly: ten jobs buy two retries, without any rounding."""
    budget = RetryBudget(0.2, 0.0)
    for _ in range(10):
        budget.deposit(0.0)
    assert [budget.allow(1.0) for _ in range(4)] == [True, True, False, False]
    assert budget.refused == 2


def test_a_quiet_worker_retries() -> None:
    """The floor alone is good for six retries a minute."""
    budget = RetryBudget(0.2, 0.1)
    assert [budget.allow(0.0) for _ in range(7)] == [True] * 6 + [False]
    assert budget.wait_s(0.0) == pytest.approx(WINDOW_S)
    assert budget.allow(WINDOW_S)


def test_what_was_paid_in_expires() -> None:
    """A busy morning pays for no storm of retries in the evening."""
    budget = RetryBudget(0.2, 0.0)
    for _ in range(1_000):
        budget.deposit(0.0)
    assert budget.balance(WINDOW_S - 2.0) == pytest.approx(200.0)
    assert not budget.allow(WINDOW_S + 1.0)


def test_with_nothing_to_spend_there_is_still_a_hint() -> None:
    """Without any floor and any job: a whole window."""
    budget = RetryBudget(0.2, 0.0)
    assert not budget.allow(0.0)
    assert budget.wait_s(0.0) == WINDOW_S
