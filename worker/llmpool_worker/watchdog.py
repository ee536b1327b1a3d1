"""A time limit that is moved at each event of a stream, for the price of an assignment."""

from __future__ import annotations

import asyncio
from types import TracebackType


class Watchdog:
    """``asyncio.timeout_at`` with a timer that is set anew only when it goes off early, or has to go off earlier.

    A limit that moves on with each token would else set and cancel one for each. Times are the loop's, seconds.
    """

    def __init__(self, when: float) -> None:
        self._when = when
        self._timeout = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle

    def move(self, when: float) -> None:
        """The limit is at another time now, later or earlier."""
        self._when = when
        if when < self._timer.when():
            self._timer.cancel()
            self._arm()

    async def __aenter__(self) -> Watchdog:
        await self._timeout.__aenter__()
        self._arm()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        await self._timeout.__aexit__(kind, error, trace)

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_at(self._when, self._look)

    def _look(self) -> None:
        if self._when > self._timer.when():
            self._arm()
        else:
            self._timeout.reschedule(self._when)
