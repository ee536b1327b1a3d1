"""What this worker holds, from claim to settlement: the one list that leases, cancels, drain and reports look at."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from llmpool_contract import Job, QueueKeys

from .queue.types import Claim


class Stop(StrEnum):
    """Why a running job is stopped from outside. None of these is the job's failure."""

    CANCELLED = "cancelled"
    LOST = "lost"
    """The lease is gone, or can't be shown to last: somebody else may run it, so we must not."""
    DRAIN = "drain"


@dataclass(slots=True, eq=False)
class HeldJob:
    """One claim and what is known of it here."""

    claim: Claim
    lease_until: float
    """By this process' monotonic clock, seconds, counted from before the call that set the lease."""
    claimed_at: float
    """By the same clock."""
    job: Job | None = None
    job_id: str = ""
    model: str = ""
    """The model that it is run on, or waits for, as a folded name."""
    units: int = 1
    """What it takes of a slot."""
    opened: frozenset[str] | None = None
    """Models that were open when it was claimed. None: any."""
    task: asyncio.Task[Any] | None = None
    """While it runs."""
    stop: Stop | None = None

    @property
    def known_id(self) -> str:
        """The job's id, or where its body has none that can be read, the one that its claim gives it."""
        return self.job_id or self.claim.job_id

    def stop_for(self, reason: Stop) -> None:
        """End the run, if there is one; the first reason stays."""
        if self.stop is None:
            self.stop = reason
            if self.task is not None:
                self.task.cancel()


class Held:
    """All claims of this worker by handle."""

    def __init__(self) -> None:
        self._jobs: dict[str, HeldJob] = {}

    def add(self, held: HeldJob) -> None:
        """From the moment the claim's reply is read."""
        self._jobs[held.claim.handle] = held

    def discard(self, claim: Claim) -> None:
        """Once its settlement is answered, or its loss is known."""
        self._jobs.pop(claim.handle, None)

    def get(self, claim: Claim) -> HeldJob | None:
        """The entry of a claim, None once it is settled."""
        return self._jobs.get(claim.handle)

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[HeldJob]:
        return iter(list(self._jobs.values()))

    def by_queue(self) -> dict[QueueKeys, list[HeldJob]]:
        """The same, grouped: a script call is for one queue."""
        groups: dict[QueueKeys, list[HeldJob]] = {}
        for held in self._jobs.values():
            groups.setdefault(held.claim.keys, []).append(held)
        return groups

    def with_id(self, queue: QueueKeys, job_id: str) -> Iterator[HeldJob]:
        """Running jobs of that id."""
        return (h for h in self if h.job_id == job_id and h.claim.keys == queue and h.task is not None)
