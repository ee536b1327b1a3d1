"""ENABLE_DEBUG_MODE: a timeline for each sampled job, and where the loop was held up. Never a prompt or an answer.

asyncio's own debug mode isn't used: it prints the arguments of slow callbacks, and those may be bytes of an answer.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from types import FrameType
from typing import Any

import structlog

from .events import JobEvent
from .sampling import is_sampled

log = structlog.get_logger()

SLOW_S = 0.1
"""A loop that doesn't turn for longer was held up, seconds: asyncio's own limit for slow callbacks."""
BEAT_S = 0.02
FRAMES = 12


class Timeline:
    """The hook: one line for each sampled job, at debug level, with all the times that are known of it."""

    def __init__(self, share: float) -> None:
        self._share = share

    def __call__(self, event: JobEvent) -> None:
        """Log it, if it is one of the sample."""
        if is_sampled(event.job_id, self._share):
            log.debug("job_timeline", job=event.job_id, handle=event.handle, outcome=event.outcome, **times_of(event))


def times_of(event: JobEvent) -> dict[str, float]:
    """Seconds of each phase that happened, and output tokens per second. Pure."""
    phases = {
        "queued_s": event.queued_s,
        "slot_wait_s": event.slot_wait_s,
        "load_s": event.load_s,
        "prompt_s": event.prompt_s,
        "first_token_s": event.first_token_s,
        "eval_s": event.eval_s,
        "running_s": event.running_s,
        "tokens_per_s": event.tokens_per_s,
    }
    return {name: round(value, 4) for name, value in phases.items() if value is not None}


class LoopWatch:
    """Tells when the loop was held up, for how long, and where: file, line and function, from a thread beside it."""

    def __init__(self, slow_s: float = SLOW_S) -> None:
        self._slow_s = slow_s
        self._beat = time.monotonic()
        self._seen: list[str] = []
        self._stop = threading.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.held_up = 0
        self.longest_s = 0.0

    def start(self) -> None:
        """Needs a running loop, in whose thread it is called."""
        watch = threading.Thread(target=self._watch, args=[threading.get_ident()], daemon=True, name="loop watch")
        self._beat = time.monotonic()
        watch.start()
        self._tasks = [asyncio.create_task(self._turn(), name="loop watch")]

    async def aclose(self) -> None:
        """End both the task and the thread, which ends by itself within a beat."""
        self._stop.set()
        for task in self._tasks:
            task.cancel()

    def state(self) -> dict[str, Any]:
        """For /health."""
        return {"held_up": self.held_up, "longest_seconds": round(self.longest_s, 3), "tasks": len(asyncio.all_tasks())}

    async def _turn(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            now = time.monotonic()
            late, self._beat = now - self._beat - BEAT_S, now
            if late >= self._slow_s:
                self.held_up += 1
                self.longest_s = max(self.longest_s, late)
                log.warning("loop_held_up", seconds=round(late, 3), where=self._seen)
            self._seen = []

    def _watch(self, thread: int) -> None:
        while not self._stop.wait(BEAT_S):
            late = time.monotonic() - self._beat - BEAT_S
            if late >= self._slow_s / 2 and not self._seen:
                self._seen = where(sys._current_frames().get(thread))  # noqa: SLF001 - the documented way to look there


def where(frame: FrameType | None) -> list[str]:
    """The innermost calls, outermost first. Names and lines only: values may be a user's words."""
    found: list[str] = []
    while frame is not None and len(found) < FRAMES:
        code = frame.f_code
        found.append(f"{code.co_filename.rpartition('/')[2]}:{frame.f_lineno} {code.co_name}")
        frame = frame.f_back
    return found[::-1]
