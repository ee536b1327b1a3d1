"""The moving time limit, in virtual time."""

import asyncio

import pytest

from llmpool_worker.watchdog import Watchdog
from tests.support import virtual_time


def test_it_ends_what_stalls() -> None:
    """TimeoutError comes at the last limit that was set, not at an earlier one, and at no later one."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(TimeoutError):
            async with Watchdog(began + 10) as watchdog:
                for second in range(1, 20):
                    await asyncio.sleep(1)
                    watchdog.move(began + second + 10)
                await asyncio.sleep(100)
        assert loop.time() - began == pytest.approx(29)

    virtual_time.run(main())


def test_it_may_be_drawn_in() -> None:
    """An earlier limit counts from when it is set; one that is past, at once."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for earlier in (3.0, -1.0):
            began = loop.time()
            with pytest.raises(TimeoutError):
                async with Watchdog(began + 100) as watchdog:
                    watchdog.move(began + earlier)
                    await asyncio.sleep(50)
            assert loop.time() - began == pytest.approx(max(0.0, earlier))

    virtual_time.run(main())


def test_what_is_done_in_time_is_left_alone() -> None:
    """Nothing is cancelled afterwards, and somebody else's cancel stays one."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with Watchdog(loop.time() + 1):
            await asyncio.sleep(0.5)
        await asyncio.sleep(5)

        async def stalled() -> None:
            async with Watchdog(loop.time() + 1_000):
                await asyncio.sleep(2_000)

        task = asyncio.create_task(stalled())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    virtual_time.run(main())
