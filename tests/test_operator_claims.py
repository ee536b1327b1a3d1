"""One queue, one pool per Redis."""

import pytest

from llmpool_operator.claims import Claimant, clashes, redis_identity


def claimant(name: str, born: str, *queues: str, redis: str = "redis://r") -> Claimant:
    return Claimant(("ns", name), born, f"uid-{name}", redis_identity(redis), queues)


def test_the_younger_holds() -> None:
    """Age decides, whatever the order they are seen in."""
    pools = [claimant("b", "2026-01-02T00:00:00Z", "q"), claimant("a", "2026-01-01T00:00:00Z", "q")]
    held = clashes(pools)
    assert held.keys() == {("ns", "b")}
    assert held["ns", "b"].holder == ("ns", "a")
    assert "queue q belongs to the older pool ns/a" in held["ns", "b"].message


def test_equal_ages_are_told_apart_by_uid() -> None:
    """Two pools of one second never both hold, nor both work."""
    pools = [claimant("b", "2026-01-01T00:00:00Z", "q"), claimant("a", "2026-01-01T00:00:00Z", "q")]
    assert clashes(pools).keys() == clashes(reversed(pools)).keys() == {("ns", "b")}


def test_different_redises_share_names() -> None:
    """The same queue name in two Redises is two queues."""
    assert clashes([claimant("a", "1", "q"), claimant("b", "2", "q", redis="redis://other")]) == {}


def test_a_pool_that_holds_takes_nothing() -> None:
    """Only pools that work count: c isn't held up by b, which a holds up."""
    held = clashes([claimant("a", "1", "q"), claimant("b", "2", "q", "p"), claimant("c", "3", "p")])
    assert held.keys() == {("ns", "b")}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param("redis://h", "redis://h:6379/0", True, id="defaults"),
        pytest.param("redis://H:6379", "rediss://h:6379/0?ssl_cert_reqs=none", True, id="scheme, case, options"),
        pytest.param("redis://h/0", "redis://h/1", False, id="database"),
        pytest.param("redis://h:6379", "redis://h:6380", False, id="port"),
    ],
)
def test_what_makes_a_redis_the_same(one: str, other: str, same: bool) -> None:
    """Host, port and database."""
    assert (redis_identity(one) == redis_identity(other)) == same
