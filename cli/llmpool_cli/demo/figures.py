"""Figures of a run. Missing is never zero: what was not measured is None."""

from __future__ import annotations

import math
from collections.abc import Sequence

from llmpool_contract import Result


def waits_of(results: Sequence[Result]) -> list[float]:
    """Seconds from submission to claim, where they are known."""
    known = (result.timings.queued for result in results if result.timings is not None)
    return [queued for queued in known if queued is not None]


def percentile(values: Sequence[float], percent: int) -> float | None:
    """The nearest-rank percentile: the smallest value that so many percent don't exceed. None: no values."""
    if not values:
        return None
    rank = max(1, math.ceil(len(values) * percent / 100))
    return round(sorted(values)[rank - 1], 3)


def token_rate(results: Sequence[Result], submitted_at: float | None, answered_at: float | None) -> float | None:
    """Tokens of all answers over the seconds from the first claim to the last answer.

    None: no server counted tokens, or nothing was answered. Times are of one clock, in seconds.
    """
    tokens = [r.usage.output_tokens for r in results if r.usage is not None and r.usage.output_tokens is not None]
    waits = waits_of(results)
    if not tokens or not waits or submitted_at is None or answered_at is None:
        return None
    seconds = answered_at - submitted_at - min(waits)
    return round(sum(tokens) / seconds, 1) if seconds > 0 else None
