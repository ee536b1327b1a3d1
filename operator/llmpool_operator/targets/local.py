"""Worker processes on this machine. They are looked after on each turn; nothing runs in between."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from llmpool_contract import WorkerReport, WorkerState, env
from llmpool_operator.decide.types import Missing

from .base import NOT_READ, Resized, Sighting, Size, TargetError, Turn

WORKER_MODULE = "llmpool_worker"
KILL_GRACE = 5.0
"""Seconds that a worker gets after its drain has run out, to give its jobs back, before SIGKILL."""
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
_LONG_LIFE = 30.0
"""Seconds after which an exit is no longer taken for a start that failed."""
_POLL = 0.05
_OWN = {env.HEALTH_HOST: "127.0.0.1", env.HEALTH_PORT: "0"}
"""Any free port, and nobody else's business: nothing probes a local worker from outside."""

# The child itself asks to be told when its parent dies: between fork and exec (preexec_fn) it wouldn't be safe.
_BOOT = """
import ctypes, os, runpy, signal, sys
parent, module = int(sys.argv[1]), sys.argv[2]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
if os.getppid() != parent:
    sys.exit("the parent is gone")
sys.argv = [module]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


@dataclass(slots=True)
class _Child:
    worker: str
    process: subprocess.Popen[bytes]
    started: float
    kill_at: float | None = None
    """When it must be gone, by the monotonic clock. None: it is wanted."""


def victims(
    workers: Sequence[str], reports: Mapping[str, WorkerReport], count: int, *, reported: Collection[str]
) -> list[str]:
    """Whom to end: the idlest first, the newest among equals (``workers`` are oldest first).

    One that never ``reported`` still starts and has no job: it goes first. One that did, but has no fresh report, is
    unknown, not idle: it goes last.
    """

    def rank(item: tuple[int, str]) -> tuple[int, int, int]:
        age, worker = item
        if (report := reports.get(worker)) is not None:
            return 1, report.in_flight, -age
        return (2 if worker in reported else 0), 0, -age

    return [worker for _, worker in sorted(enumerate(workers), key=rank)[:count]]


class LocalTarget:
    """Child processes ``python -m llmpool_worker``, each in a session of its own so that Ctrl-C reaches only us."""

    def __init__(
        self,
        *,
        name: str,
        environment: Mapping[str, str],
        drain_seconds: float,
        monotonic: Callable[[], float],
        on_turn: Callable[[Turn], None],
        on_note: Callable[[str], None],
        output: int | None = None,
        module: str = WORKER_MODULE,
    ) -> None:
        """``name`` begins each WORKER_ID and must be unique; ``output`` is where the workers write (None: as we do)."""
        self._name = name
        self._environment = environment
        self._drain = drain_seconds
        self._monotonic = monotonic
        self._on_turn = on_turn
        self._on_note = on_note
        self._output = output
        self._module = module
        self._children: list[_Child] = []
        self._intended = 0
        self._started = 0
        self._failures = 0
        self._not_before = -float("inf")
        self._seen: Mapping[str, WorkerReport] = {}
        self._reported: set[str] = set()
        """The children that were ever seen with a fresh report."""

    async def size(self, sighting: Sighting, now: float) -> Size:  # noqa: ARG002 - a target's
        """What was asked for and what is there; draining workers still exist, but aren't intended."""
        self._tidy()
        self._seen = {} if isinstance(sighting.reports, Missing) else sighting.reports
        self._reported = {c.worker for c in self._children if c.worker in self._seen or c.worker in self._reported}
        wanted = self._wanted()
        ready = [c for c in wanted if (seen := self._seen.get(c.worker)) and seen.state is WorkerState.READY]
        # Without reports nobody knows who is ready: that is no zero.
        pods = sighting.reports if isinstance(sighting.reports, Missing) else NOT_READ
        return Size(self._intended, existing=len(self._children), ready=len(ready), pods=pods)

    async def resize(self, replicas: int) -> Resized:
        """Start what is missing, drain what is too many. Starts wait for a while after a worker that failed."""
        self._intended = replicas
        self._tidy()
        surplus = len(self._wanted()) - replicas
        if surplus > 0:
            # Loads as of this turn: chosen by what was seen just before the decision.
            workers = [child.worker for child in self._wanted()]
            chosen = victims(workers, self._seen, surplus, reported=self._reported)
            for child in [child for child in self._wanted() if child.worker in chosen]:
                self._ask_to_end(child)
        while len(self._wanted()) < replicas and self._monotonic() >= self._not_before:
            self._start()
        return Resized(replicas, draining=len(self._children) - len(self._wanted()))

    async def report(self, turn: Turn) -> None:
        """Hand the turn on."""
        self._on_turn(turn)

    async def close(self, hurry: asyncio.Event) -> None:
        """Drain all workers and wait for them; ``hurry`` ends them at once."""
        self._intended = 0
        for child in self._wanted():
            self._ask_to_end(child)
        while self._children:
            if hurry.is_set():
                self._kill_all()
            await asyncio.sleep(_POLL)
            self._tidy()

    def _wanted(self) -> list[_Child]:
        return [child for child in self._children if child.kill_at is None]

    def _start(self) -> None:
        self._started += 1
        worker = f"{self._name}-{self._started}"
        try:
            process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, str(os.getpid()), self._module],
                env={**self._environment, **_OWN, env.WORKER_ID: worker},
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                start_new_session=True,
            )
        except OSError as error:  # no memory, no more processes: the next turns try again
            self._wait_longer()
            raise TargetError("WorkerNotStarted", f"{worker}: {error.strerror}") from error
        self._children.append(_Child(worker, process, self._monotonic()))

    def _ask_to_end(self, child: _Child) -> None:
        child.kill_at = self._monotonic() + self._drain + KILL_GRACE
        child.process.send_signal(signal.SIGTERM)

    def _kill_all(self) -> None:
        for child in self._children:
            child.process.kill()

    def _tidy(self) -> None:
        """Bury the ended, kill what outlived its drain."""
        now = self._monotonic()
        gone = [child for child in self._children if child.process.poll() is not None]
        self._children = [child for child in self._children if child not in gone]
        for child in gone:
            if child.kill_at is None:
                self._mourn(child, now)
        for child in self._children:
            if child.kill_at is not None and now >= child.kill_at:
                self._on_note(f"worker {child.worker} did not end within its drain ({self._drain:g} s): killed")
                child.process.kill()
                child.kill_at = float("inf")

    def _mourn(self, child: _Child, now: float) -> None:
        """A worker ended that should not have: the next start waits, longer each time that it comes soon."""
        lived = now - child.started
        if lived >= _LONG_LIFE:
            self._failures = 0
        wait = self._wait_longer()
        how = _ending(child.process.returncode)
        self._on_note(f"worker {child.worker} ended by itself after {lived:.1f} s ({how}); next start in {wait:g} s")

    def _wait_longer(self) -> float:
        """Put off the next start, by twice as long each time. Returns the seconds."""
        wait = min(_FIRST_WAIT * 2.0 ** min(self._failures, 10), _LONGEST_WAIT)
        self._failures += 1
        self._not_before = max(self._not_before, self._monotonic() + wait)
        return wait


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
