"""What is told to Kubernetes beside the loop: who is sent when, what is tried again, and what a stop does."""

import asyncio
from collections import Counter
from itertools import pairwise

from llmpool_operator.kube import APIError
from llmpool_operator.outbox import AT_ONCE, Outbox
from llmpool_operator.store import Key
from tests.support.virtual_time import run

BUSY = APIError(503, "ServiceUnavailable", "later")


def key(number: int) -> Key:
    return "ns", f"pool-{number}"


class Sender:
    """One pool's news: `news` is what a send would send, `sent` what was."""

    def __init__(self) -> None:
        self.news = 0
        self.sent: list[int] = []
        self.tried: list[float] = []
        self.failures: list[Exception] = []
        self.takes = 0.0

    async def send(self) -> None:
        self.tried.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.takes)
        if self.failures:
            raise self.failures.pop(0)
        self.sent.append(self.news)


def test_the_latest_news_win() -> None:
    """However often a pool asks while one of its sends is under way, one more follows, and it sends the newest."""

    async def main() -> list[int]:
        outbox, pool = Outbox(Counter().update), Sender()
        pool.takes = 1.0
        for news in range(1, 6):
            pool.news = news
            outbox.ask(key(0), pool.send)
            await asyncio.sleep(0.1)
        await asyncio.sleep(10)
        assert len(outbox) == 0
        assert pool.tried == [0.0, 1.0]
        return pool.sent

    assert run(main()) == [5, 5]


def test_few_are_sent_at_once_in_the_order_of_asking() -> None:
    """A burst of pools is told of a few at a time, the first that asked first."""
    begun: list[int] = []
    now = most = 0

    async def send(number: int) -> None:
        nonlocal now, most
        begun.append(number)
        now += 1
        most = max(most, now)
        await asyncio.sleep(1)
        now -= 1

    async def main() -> None:
        outbox = Outbox(Counter().update)
        for number in range(100):
            outbox.ask(key(number), lambda number=number: send(number))
        await asyncio.sleep(100)
        assert len(outbox) == 0

    run(main())
    assert begun == list(range(100))
    assert most == AT_ONCE


def test_acting_comes_first() -> None:
    """While sizes are being asked for, one pool at a time is told of; then as many as ever."""
    most: dict[bool, int] = {True: 0, False: 0}
    hurried, now = True, 0

    async def send() -> None:
        nonlocal now
        now += 1
        most[hurried] = max(most[hurried], now)
        await asyncio.sleep(1)
        now -= 1

    async def main() -> None:
        nonlocal hurried
        outbox = Outbox(Counter().update, lambda: hurried)
        for number in range(100):
            outbox.ask(key(number), send)
        await asyncio.sleep(10.5)
        hurried = False
        await asyncio.sleep(100)
        assert len(outbox) == 0

    run(main())
    assert most == {True: 1, False: AT_ONCE}


def test_a_failure_is_tried_again_with_what_is_newest_then() -> None:
    """Pauses grow; asking in between neither hurries nor repeats it."""
    failed: list[str] = []

    async def main() -> Sender:
        outbox, pool = Outbox(failed.append), Sender()
        pool.failures = [BUSY, BUSY, BUSY]
        while not pool.sent:
            outbox.ask(key(0), pool.send)
            await asyncio.sleep(0.5)
            pool.news += 1
        return pool

    pool = run(main())
    gaps = [later - earlier for earlier, later in pairwise(pool.tried)]
    assert len(pool.tried) == 4
    assert all(2**n / 2 <= gap <= 2**n for n, gap in enumerate(gaps))
    assert pool.sent[0] >= 3, "not what was news at the first try"
    assert len(pool.sent) == 1
    assert failed == ["Tell"] * 3


def test_one_that_fails_holds_up_no_other() -> None:
    """Pools that can't be told of wait outside of the few places there are."""

    async def main() -> list[int]:
        outbox, good = Outbox(Counter().update), Sender()
        for number in range(1, 40):
            bad = Sender()
            bad.failures = [BUSY] * 100
            outbox.ask(key(number), bad.send)
        outbox.ask(key(0), good.send)
        await asyncio.sleep(0.1)
        await outbox.close(1)
        return good.sent

    assert run(main()) == [0]


def test_a_fault_of_our_own_ends_there() -> None:
    """A send that breaks is counted and not repeated; the next ask is a new beginning."""
    failed: list[str] = []

    async def main() -> list[int]:
        outbox, pool = Outbox(failed.append), Sender()
        pool.failures = [KeyError("status")]
        outbox.ask(key(0), pool.send)
        await asyncio.sleep(60)
        outbox.ask(key(0), pool.send)
        await asyncio.sleep(60)
        return pool.sent

    assert run(main()) == [0]
    assert failed == ["TellingBroke"]


def test_nothing_is_told_of_a_pool_that_is_gone() -> None:
    """Whether it waits, is under way or waits for its next try: it ends, and a new pool of the name begins anew."""

    async def main() -> None:
        outbox, pool = Outbox(Counter().update), Sender()
        pool.failures = [BUSY]
        outbox.ask(key(0), pool.send)
        await asyncio.sleep(0.1)
        outbox.forget(key(0))
        pool.takes = 5
        outbox.ask(key(0), pool.send)
        await asyncio.sleep(0.1)
        outbox.forget(key(0))
        await asyncio.sleep(60)
        assert (pool.sent, len(outbox)) == ([], 0)
        outbox.ask(key(0), pool.send)
        await asyncio.sleep(60)
        assert pool.sent == [0]

    run(main())


def test_a_stop_tells_what_it_can_and_counts_the_rest() -> None:
    """Within the limit all that waits is sent, also what waited for another try; what is left is counted."""
    failed: list[str] = []

    async def main() -> tuple[list[int], list[int], float]:
        outbox, again, slow = Outbox(failed.append), Sender(), Sender()
        again.failures, slow.takes = [BUSY], 100.0
        outbox.ask(key(0), again.send)
        outbox.ask(key(1), slow.send)
        await asyncio.sleep(0.1)
        began = asyncio.get_running_loop().time()
        await outbox.close(1.0)
        assert len(outbox) == 0
        return again.sent, slow.sent, asyncio.get_running_loop().time() - began

    again, slow, took = run(main())
    assert (again, slow) == ([0], [])
    assert took <= 1.0
    assert failed == ["Tell", "NotTold"]
