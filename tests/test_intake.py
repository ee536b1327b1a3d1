"""Whose turn it is to claim, when slots are shared by jobs of different size."""

from collections.abc import Mapping

from llmpool_contract import QueueKeys
from llmpool_worker.clock import RedisClock
from llmpool_worker.intake import Intake, Terms
from llmpool_worker.queue.store import Claimed, Limits

CHAT, EMBED = QueueKeys("llm-chat"), QueueKeys("llm-embed")
SLOT = 10


class Store:
    """Notes what is claimed. Every queue has more than anybody can take."""

    limits = Limits(lease_ms=30_000, job_max_bytes=1_000, slot_units=SLOT)

    def __init__(self) -> None:
        self.claims: list[tuple[QueueKeys, int]] = []
        self.lost = False

    async def claim(self, _redis, keys, _token, units, **_terms):
        if self.lost:
            raise OSError("no reply")
        self.claims.append((keys, units))
        return Claimed(["a claim"], 0, 1_000, full=True)


class AnyJob:
    """No model is looked at."""

    def caps(self, _free: int) -> Mapping[str, int] | None:
        return None

    def claim_begins(self) -> None: ...
    def claim_ends(self) -> None: ...
    def looked(self, _queue, _passed, _more, *, full) -> None: ...


class Bench:
    """An intake of two queues, and how many units are free."""

    def __init__(self) -> None:
        self.free, self.store, terms = 0, Store(), AnyJob()
        self._terms: Terms = terms

    def intake(self) -> Intake:
        async def admit(_keys, _batch) -> None: ...

        queues = {CHAT: "chat", EMBED: "embed"}
        return Intake(
            None, self.store, RedisClock(), queues, lambda: self.free, self._terms, admit, self._failed, lambda *_: None
        )

    def _failed(self, _error: Exception) -> None: ...


async def test_embed_jobs_leave_a_whole_slot_to_who_is_next() -> None:
    """A chat job needs a slot of its own: while its queue is next, embed jobs don't take the units that become free."""
    bench = Bench()
    intake = bench.intake()
    for bench.free in (1, 3, SLOT - 1):
        assert not await intake.turn()
    bench.free = SLOT
    assert await intake.turn()
    bench.free = 1
    assert await intake.turn()
    assert bench.store.claims == [(CHAT, SLOT), (EMBED, 1)]


async def test_a_claim_without_a_reply_is_repeated_before_any_other() -> None:
    """Its jobs may hold the very slots that the next in turn waits for."""
    bench = Bench()
    intake = bench.intake()
    bench.free, bench.store.lost = SLOT, True
    assert await intake.turn()
    bench.store.lost = False
    intake.found(CHAT)
    assert await intake.turn()
    assert bench.store.claims == [(CHAT, SLOT)]
