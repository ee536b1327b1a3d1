"""What is to be told to Kubernetes, beside the loop: telling is slow and for people, and must never delay acting.

Each pool has one place in the queue, however often it asks: what it sends is the newest there is by then. A few are
sent at once. What fails is tried again after a pause; what is given up is counted.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import structlog

from .kube import APIError
from .store import Key

log = structlog.get_logger(__name__)
Send: TypeAlias = Callable[[], Awaitable[None]]
"""Sends all that a pool has to tell at that moment. Raises APIError where some of it is left for another try."""
AT_ONCE = 8
"""Pools that are told of at the same time: few, so that acting always finds the API server with room to spare."""
_LONGEST_PAUSE = 15.0
"""Seconds: an API server that is back is told everything within this."""


@dataclass(slots=True)
class _Paused:
    """One that failed and waits for its next try."""

    send: Send
    timer: asyncio.TimerHandle


class Outbox:
    """All pools' tellings. ``failed`` counts a failure by its kind; kinds are few and fixed words.

    ``hurried`` says whether sizes are being asked for right now: then only one pool is told of at a time.
    """

    def __init__(self, failed: Callable[[str], None], hurried: Callable[[], bool] = lambda: False) -> None:
        self._failed = failed
        self._hurried = hurried
        self._waiting: dict[Key, Send] = {}
        """In the order in which they asked."""
        self._sending: dict[Key, asyncio.Task[None]] = {}
        self._paused: dict[Key, _Paused] = {}
        self._failures: dict[Key, int] = {}

    def __len__(self) -> int:
        """Pools that have something to tell."""
        return len(self._waiting.keys() | self._sending.keys() | self._paused.keys())

    def ask(self, key: Key, send: Send) -> None:
        """Have a pool's news sent. One that waits already, also for its next try, keeps its place."""
        if key in self._paused:
            self._paused[key].send = send
            return
        self._waiting[key] = send
        self._pump()

    def forget(self, key: Key) -> None:
        """The pool is gone: nothing of it is to be told any more."""
        self._waiting.pop(key, None)
        self._failures.pop(key, None)
        if paused := self._paused.pop(key, None):
            paused.timer.cancel()
        if task := self._sending.pop(key, None):
            task.cancel()

    async def close(self, limit: float) -> None:
        """Send what can be sent within ``limit`` seconds, each once; count the rest and let it go."""
        for key in list(self._paused):
            self._resume(key)
        deadline = asyncio.get_running_loop().time() + limit
        while self._sending and (left := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._sending.values(), timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if lost := len(self):
            log.warning("not told", pools=lost)
        for _ in range(lost):
            self._failed("NotTold")
        tasks = list(self._sending.values())
        for key in [*self._waiting, *self._sending, *self._paused]:
            self.forget(key)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _pump(self) -> None:
        most = 1 if self._hurried() else AT_ONCE
        if len(self._sending) >= most:  # all that follows looks at everybody who waits
            return
        free = (key for key in list(self._waiting) if key not in self._sending)
        while len(self._sending) < most and (key := next(free, None)) is not None:
            send = self._waiting.pop(key)
            self._sending[key] = asyncio.create_task(self._send(key, send), name=f"tell {'/'.join(key)}")

    async def _send(self, key: Key, send: Send) -> None:
        task = asyncio.current_task()
        try:
            await send()
        except APIError as error:
            self._pause(key, send, error)
        except Exception:
            # A fault of our own: the other pools are told of all the same, and the log has where it was.
            log.exception("telling broke", namespace=key[0], pool=key[1])
            self._failed("TellingBroke")
        else:
            self._failures.pop(key, None)
        finally:
            if self._sending.get(key) is task:  # else it was forgotten, and perhaps another pool has the name
                del self._sending[key]
            self._pump()

    def _pause(self, key: Key, send: Send, error: APIError) -> None:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self._failed("Tell")
        if failures == 0:
            log.warning("not told yet", namespace=key[0], pool=key[1], error=str(error))
        pause = min(_LONGEST_PAUSE, 2.0**failures) * (1 - random.random() / 2)
        send = self._waiting.pop(key, send)
        timer = asyncio.get_running_loop().call_later(pause, self._resume, key)
        self._paused[key] = _Paused(send, timer)

    def _resume(self, key: Key) -> None:
        paused = self._paused.pop(key)
        paused.timer.cancel()
        self._waiting[key] = paused.send
        self._pump()
