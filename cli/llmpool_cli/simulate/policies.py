"""What sizes a simulated pool: a policy plans its own turns in a world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from llmpool_contract.pool import LLMWorkerPoolSpec

from .record import Record
from .terms import PeerTerms, WorkerTerms
from .trace import Trace
from .world import World

LOOK = 1.0
"""Seconds from look to look at the world: for the plot, and for metrics that come late."""


class Policy(Protocol):
    """Sizes a world's workers."""

    def begin(self, world: World, phase: Callable[[float], float]) -> None:
        """Start the first workers and plan the first turn; ``phase(period)`` is when in a period the turns come."""


@dataclass(frozen=True, slots=True)
class Terms:
    """All that a run depends on, but for the trace."""

    spec: LLMWorkerPoolSpec
    worker: WorkerTerms
    peers: PeerTerms
    seed: int = 1


def simulate(policy: Policy, trace: Trace, terms: Terms) -> Record:
    """Run a trace under a policy. The same arguments give the same record."""
    world = World(trace, terms.worker, terms.seed)
    random = Random(f"phases {terms.seed}")
    world.clock.every(LOOK, 0.0, lambda _: world.look())
    policy.begin(world, lambda period: random.uniform(0, period))
    return world.run()
