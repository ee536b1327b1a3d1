"""The contract's small parts: names of keys, pool configuration, reports."""

import pytest
from pydantic import ValidationError

from llmpool_contract import BadName, PoolConfig, PoolKeys, QueueKeys, WorkerReport


def test_all_keys_of_a_queue_share_its_slot() -> None:
    """Every key but the ready list of normal priority begins with the queue's name as a hash tag."""
    keys = QueueKeys("llm-chat")
    made = [
        keys.high,
        keys.low,
        keys.claimed,
        keys.lease,
        keys.delayed,
        keys.dead,
        keys.stats,
        keys.events,
        keys.cancels,
    ]
    made += [keys.id("a"), keys.result("a"), keys.stream("a"), keys.cancel("a"), keys.settled("a")]
    assert all(name.startswith("{llm-chat}:") for name in made)
    assert len(set(made)) == len(made)
    assert keys.ready == ("{llm-chat}:high", "llm-chat", "{llm-chat}:low")


@pytest.mark.parametrize("name", ["", "a b", "{a}", "a\n", "ä", "x" * 129])
def test_names_that_cannot_be_keys(name: str) -> None:
    """A queue's name never breaks out of its hash tag."""
    with pytest.raises(BadName):
        QueueKeys(name)


@pytest.mark.parametrize("pool", ["a", "/", "a/", "/b", "a/b/c", "{a}/b"])
def test_pools_are_named_namespace_and_name(pool: str) -> None:
    """Exactly two parts."""
    with pytest.raises(BadName):
        PoolKeys(pool)


def test_pool_configuration_is_read_back() -> None:
    """What one side writes into the hash the other one reads; an empty hash has the defaults, unknown fields pass."""
    until = 1_800_000_000_000
    config = PoolConfig(
        version=3, owner="uid", transition=2, renewed_ms=until - 9, preload=("a:1b", "b"), drains={"w-1": until}
    )
    assert PoolConfig.from_hash(config.to_hash()) == config
    assert PoolConfig.from_hash({"later": "x"}) == PoolConfig()
    with pytest.raises(ValidationError, match="drains"):
        PoolConfig.from_hash({"drain:w-1": "soon"})


def test_a_report_is_fresh_for_a_while() -> None:
    """An old report says nothing about now."""
    report = WorkerReport(
        worker="w", pool="local/default", state="ready", at_ms=10_000, in_flight=0, capacity=5, queues=["llm-chat"]
    )
    assert report.is_fresh(15_000)
    assert not report.is_fresh(15_001)
