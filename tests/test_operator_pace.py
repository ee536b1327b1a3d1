"""How rounds over all pools are spread in time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpool_operator.pace import LONGEST, SHARE, SLICE, Pace, slices


@given(st.integers(0, 12_000))
def test_parts_are_all_pools_once(pools: int) -> None:
    """Every pool is in one part, in order; parts are small and of nearly one size, so that the load is even."""
    keys = [("ns", str(number)) for number in range(pools)]
    parts = slices(keys)
    assert [key for part in parts for key in part] == keys
    sizes = {len(part) for part in parts}
    assert max(sizes) <= SLICE
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("costs", "period"),
    [
        pytest.param([], 1.0, id="at the start"),
        pytest.param([0.3] * 9, 1.0, id="cheap rounds take a tick"),
        pytest.param([2.0, 0.3, 0.3], 1.0, id="a burst changes nothing"),
        pytest.param([0.3, 2.0, 2.0], 1.0, id="nor does the next round"),
        pytest.param([0.8] * 3, 0.8 / SHARE, id="lasting work makes rounds longer"),
        pytest.param([0.8] * 3 + [0.1], 1.0, id="at once a tick again"),
        pytest.param([30.0] * 3, LONGEST, id="never longer than the bound"),
    ],
)
def test_a_round_takes_its_share_of_a_core(costs: list[float], period: float) -> None:
    """A round takes a tick, or so long that its lasting cost stays within the share, up to a bound."""
    pace = Pace(1.0)
    for cost in costs:
        pace.ended(cost)
    assert pace.period == period
