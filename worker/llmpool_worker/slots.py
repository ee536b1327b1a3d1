"""How many jobs this worker may take now. Time is a parameter, monotonic seconds."""

from __future__ import annotations

import asyncio

from .clock import RedisClock

AWAY_S = 2.0
"""How long a model server that was full or away is taken to be so still, seconds."""


class Slots:
    """One for each job that may run at once, and the reasons for which fewer are free than are empty."""

    def __init__(self, concurrency: int, clock: RedisClock, batch: int = 1) -> None:
        self.concurrency = concurrency
        self.batch = batch
        """Units that a slot is worth: inputs of embed jobs, which share one; any other job takes a whole slot."""
        self.allowed = concurrency
        """Slots that may be used now: fewer than there are while the model server is busy with others."""
        self.running = 0
        """Jobs."""
        self._units = 0
        self.stopping = False
        """Set once, when the worker is told to stop."""
        self.none_runs = asyncio.Event()
        self.none_runs.set()
        self._clock = clock
        self._drain_until_ms: int | None = None
        self._away_until: float | None = None

    @property
    def used(self) -> int:
        """Slots that are taken, whole or in part."""
        return -(-self._units // self.batch)

    def take(self, units: int) -> None:
        """A job starts."""
        self._units += units
        self.running += 1
        self.none_runs.clear()

    def give_back(self, units: int) -> None:
        """A job has ended, however it did."""
        self._units -= units
        self.running -= 1
        if self.running == 0:
            self.none_runs.set()

    def server_was_away(self, now: float) -> None:
        """The model server was full, or not there: nothing was asked of it."""
        self._away_until = now + AWAY_S

    def server_was_there(self) -> None:
        """It took a request, whatever it made of it."""
        self._away_until = None

    def wish_drain(self, until_ms: int | None) -> None:
        """What the pool asks, by Redis' clock. The wish is a lease: it lapses with its owner."""
        self._drain_until_ms = until_ms

    @property
    def drain_asked(self) -> bool:
        """Whether the pool wants this worker to take nothing new."""
        return self._drain_until_ms is not None and self._clock.now_ms() < self._drain_until_ms

    def free(self, now: float, unsettled: int) -> int:
        """Units' worth of jobs that may be claimed. ``unsettled``: ends of jobs that Redis hasn't acknowledged yet."""
        if self.stopping or self.drain_asked:
            return 0
        if unsettled > 2 * self.concurrency + 64:
            return 0  # Redis takes no answers: more jobs would only pile up here
        empty = min(self.concurrency, self.allowed) * self.batch - self._units
        if self._away_until is None:
            return empty
        # After a while one job asks whether the server still is away. The others keep their places in the queue, in
        # place of going round through the delayed ones.
        return min(empty, self.batch) if now >= self._away_until and self.running == 0 else 0
