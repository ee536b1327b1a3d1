"""Small traces and worlds for the simulator's tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from llmpool_cli.simulate.hpa import HpaPolicy
from llmpool_cli.simulate.keda import KedaPolicy
from llmpool_cli.simulate.policies import Policy
from llmpool_cli.simulate.pool import PoolPolicy
from llmpool_cli.simulate.terms import PeerTerms, WorkerTerms
from llmpool_cli.simulate.trace import Trace
from llmpool_cli.simulate.world import World
from llmpool_contract.pool import LLMWorkerPoolSpec

POLICIES = ("pool", "hpa", "keda")
AT_ONCE = {"startup": 0.0, "startup_jitter": 0.0, "load": 0.0}
"""Workers that are there when they are asked for."""


def trace_of(jobs: Sequence[tuple[float, float]], models: Sequence[str] = (), span: float | None = None) -> Trace:
    """Jobs as (arrival, seconds alone): with ``worker_of``'s rates an output token takes a millisecond."""
    return Trace(
        name="test",
        begins=0.0,
        span=max(at for at, _ in jobs) if span is None else span,
        arrivals=[at for at, _ in jobs],
        inputs=[0] * len(jobs),
        outputs=[round(seconds * 1000) for _, seconds in jobs],
        models=list(models) or [""] * len(jobs),
    )


def worker_of(**terms: Any) -> WorkerTerms:
    """Ready at once, one output token per millisecond alone and two for all jobs together, unless told otherwise."""
    return WorkerTerms(**{**AT_ONCE, "decode_alone": 1000.0, "decode": 2000.0, **terms})


def spec_of(**scaling: Any) -> LLMWorkerPoolSpec:
    """A pool of one queue."""
    return LLMWorkerPoolSpec.model_validate(
        {"queues": [{"name": "q"}], "redis": {"url": "redis://localhost"}, "scaling": scaling}
    )


def policy_of(name: str, spec: LLMWorkerPoolSpec, peers: PeerTerms | None = None) -> Policy:
    """A policy with five jobs a worker as its target."""
    peers = peers or PeerTerms()
    if name == "pool":
        return PoolPolicy(spec)
    if name == "hpa":
        return HpaPolicy(spec.scaling, Fraction(5), peers)
    return KedaPolicy(spec.scaling, Fraction(5), peers)


class Fixed:
    """A policy that starts so many workers, and does what a script says at its times."""

    def __init__(self, size: int, script: Sequence[tuple[float, Callable[[World], None]]] = ()) -> None:
        self._size = size
        self._script = script

    def begin(self, world: World, phase: Callable[[float], float]) -> None:
        """Start, and plan the script."""
        world.start(self._size, ready=True)
        for time, act in self._script:
            world.clock.at(time, act, world)
