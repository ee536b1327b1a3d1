"""What the operator's log says of a pool's turns: changes alone."""

from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from llmpool_operator.decide.types import Decision, History, Missing, Observation, Reason
from llmpool_operator.targets.base import Sighting, Size, TargetError, Turn
from llmpool_operator.tell import tell


def turn(decision: Decision | None = None, failure: TargetError | None = None) -> Turn:
    return Turn(0.0, Size(2, 2, 2), Sighting(Observation(0.0, {}), Missing("x")), decision, failure=failure)


def held(why: str) -> Turn:
    return turn(Decision(2, 2, 2, Reason.METRICS_MISSING, f"held at 2: {why}", (), (), (), History(), hold=True))


FINE = turn(Decision(2, 2, 2, Reason.DESIRED_WITHIN_RANGE, "why", (), (), (), History(), hold=False))


def lines_of(*turns: Turn) -> list[Any]:
    """Each line's event and reason."""
    with capture_logs() as logs:
        for before, after in zip((None, *turns), turns, strict=False):
            tell(("lms", "chat"), before, after)
    return [(line["event"], line.get("reason")) for line in logs]


@pytest.mark.parametrize(
    ("turns", "wanted"),
    [
        pytest.param([FINE, FINE], [], id="all well"),
        pytest.param(
            [FINE, held("RedisTimeout"), held("RedisUnreachable"), held("RedisTimeout"), FINE],
            [("held", "MetricsMissing"), ("back to normal", None)],
            id="a Redis whose errors alternate",
        ),
        pytest.param(
            [turn(failure=TargetError("Forbidden", "a")), turn(failure=TargetError("Forbidden", "b"))],
            [("held", "Forbidden")],
            id="a failure in other words",
        ),
        pytest.param(
            [held("x"), turn(failure=TargetError("Forbidden", "a"))],
            [("held", "MetricsMissing"), ("held", "Forbidden")],
            id="another failure",
        ),
    ],
)
def test_a_trouble_is_told_when_it_begins_and_when_it_ends(turns: list[Turn], wanted: list[Any]) -> None:
    """By its reason: what varies in its message would fill the log, once for each pool of that Redis."""
    assert lines_of(*turns) == wanted


def test_drains_that_were_given_up_are_told() -> None:
    """Of which pool and how many: the metric only counts them."""
    with capture_logs() as logs:
        tell(("lms", "chat"), FINE, replace(FINE, given_up=2))
    assert [(line["event"], line["pool"], line["workers"]) for line in logs] == [("drains given up", "chat", 2)]
