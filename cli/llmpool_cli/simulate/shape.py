"""A trace cut, multiplied and sped up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from random import Random

from .trace import MOST_JOBS, Trace, TraceError


@dataclass(frozen=True, slots=True)
class Shape:
    """What to make of a trace: its part, how often each job, how fast. Times in seconds of the trace as it is."""

    begin: float = 0.0
    end: float | None = None
    """None: the trace's end."""
    scale: float = 1.0
    speed: float = 1.0


def shaped(trace: Trace, shape: Shape, seed: int) -> Trace:
    """Cut, then multiplied, then sped up.

    Raises:
        TraceError: no job is left, or too many.
    """
    return speed_up(scale(window(trace, shape.begin, shape.end), shape.scale, seed), shape.speed)


def window(trace: Trace, begin: float, end: float | None) -> Trace:
    """The part from ``begin`` to ``end`` seconds after the trace's beginning (None: to its end); the end is outside.

    Raises:
        TraceError: nothing arrives in it.
    """
    if begin == 0 and end is None:
        return trace
    stop = trace.span if end is None else end
    kept = [n for n, at in enumerate(trace.arrivals) if begin <= at and (end is None or at < end)]
    if not kept or stop < begin:
        until = "the end" if end is None else f"{end:g} s"
        raise TraceError(f"{trace.name}: no job from {begin:g} s to {until}, the trace has {trace.span:g} s")
    picked = _pick(trace, ((trace.arrivals[n] - begin, n) for n in kept))
    # What is left of the window after the last job still counts.
    return replace(picked, begins=trace.begins + begin, span=stop - begin)


def speed_up(trace: Trace, speed: float) -> Trace:
    """The same jobs in ``1 / speed`` of the time."""
    if speed == 1:
        return trace
    return replace(trace, arrivals=[at / speed for at in trace.arrivals], span=trace.span / speed)


def scale(trace: Trace, factor: float, seed: int) -> Trace:
    """``factor`` times the jobs: each as often, a fraction by chance. A copy comes before the next job arrives.

    Raises:
        TraceError: more jobs than a trace may have, or none.
    """
    if factor == 1:
        return trace
    if len(trace) * factor > MOST_JOBS:
        raise TraceError(f"{trace.name}: {len(trace)} jobs times {factor:g}, allowed are {MOST_JOBS}")
    random = Random(f"scale {seed}")
    picked: list[tuple[float, int]] = []
    for n, at in enumerate(trace.arrivals):
        copies = int(factor) + (random.random() < factor % 1)
        following = trace.arrivals[n + 1] if n + 1 < len(trace) else at
        picked += [(at, n)] * (copies > 0)
        picked += [(random.uniform(at, following), n) for _ in range(copies - 1)]
    if not picked:
        raise TraceError(f"{trace.name}: no job is left at scale {factor:g}")
    return _pick(trace, sorted(picked))


def _pick(trace: Trace, picked: Iterable[tuple[float, int]]) -> Trace:
    """The jobs of these (arrival, index)."""
    pairs = list(picked)
    return replace(
        trace,
        arrivals=[at for at, _ in pairs],
        inputs=[trace.inputs[n] for _, n in pairs],
        outputs=[trace.outputs[n] for _, n in pairs],
        models=[trace.models[n] for _, n in pairs],
    )
