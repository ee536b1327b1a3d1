"""A trace of our own making, for trying the simulator: quiet, a burst, a wave, silence, bursts."""

from __future__ import annotations

from random import Random

from .trace import MOST_TOKENS, Trace

MODEL = "llama3.1:8b"
_PHASES = (
    # Seconds, jobs per second at their beginning and end.
    (300, 0.3, 0.3),
    (20, 15.0, 15.0),
    (580, 0.5, 1.5),
    (600, 1.5, 4.0),
    (600, 4.0, 0.5),
    (660, 0.0, 0.0),
    (30, 10.0, 10.0),
    (450, 0.2, 0.2),
    (10, 20.0, 20.0),
    (350, 0.1, 0.1),
)
"""One hour."""


def synthetic(seed: int) -> Trace:
    """About 4,900 chat jobs in an hour. The same seed gives the same trace.

    Arrivals are a Poisson process whose rate changes evenly within each phase; token counts are log-normal, with
    medians of 600 tokens in and 150 out.
    """
    random = Random(f"trace {seed}")
    arrivals: list[float] = []
    begin = 0.0
    for seconds, low, high in _PHASES:
        arrivals += _arrivals(random, begin, seconds, low, high)
        begin += seconds
    return Trace(
        name="synthetic",
        begins=0.0,
        span=begin,
        arrivals=arrivals,
        inputs=[_tokens(random, 600, 0.8) for _ in arrivals],
        outputs=[_tokens(random, 150, 0.9) for _ in arrivals],
        models=[MODEL] * len(arrivals),
    )


def to_csv(trace: Trace) -> str:
    """The trace as a file that can be read again; times to the millisecond."""
    rows = zip(trace.arrivals, trace.inputs, trace.outputs, trace.models, strict=True)
    lines = (f"{trace.begins + at:.3f},{i},{o},{model}" for at, i, o, model in rows)
    return "\n".join(["arrival,input_tokens,output_tokens,model", *lines, ""])


def _arrivals(random: Random, begin: float, seconds: float, low: float, high: float) -> list[float]:
    """By thinning: candidates come at the phase's highest rate, and stay by the rate of their moment."""
    most = max(low, high)
    found: list[float] = []
    at = 0.0
    while most > 0:
        at += random.expovariate(most)
        if at >= seconds:
            break
        if random.random() * most < low + (high - low) * at / seconds:
            found.append(round(begin + at, 3))
    return found


def _tokens(random: Random, median: float, spread: float) -> int:
    return min(max(round(median * random.lognormvariate(0, spread)), 1), MOST_TOKENS)
