"""What a reader of the simulated pool's numbers has to know of its spec, in a line each. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from llmpool_contract.pool import LLMWorkerPoolSpec

from .trace import Trace


def held_by_hand(spec: LLMWorkerPoolSpec) -> Iterator[str]:
    """A size by hand or a pause: HPA and KEDA are simulated without it."""
    if spec.replicas is not None:
        yield f"spec.replicas: the pool is held at {spec.replicas} by hand, HPA and KEDA are not"
    if spec.paused != "None":
        yield f"spec.paused: {spec.paused}: the pool is held by hand, HPA and KEDA are not"


def schedules_begin(spec: LLMWorkerPoolSpec, trace: Trace) -> Iterator[str]:
    """The date by which schedules are judged: arrivals in seconds are counted from 1970, a synthetic trace's too."""
    if spec.scaling.schedules:
        begin = datetime.fromtimestamp(trace.begins, UTC)
        yield f"spec.scaling.schedules: the trace begins on {begin:%A, %Y-%m-%d %H:%M:%S} UTC"
