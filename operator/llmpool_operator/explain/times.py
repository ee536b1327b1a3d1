"""Times as a status has them, and as people read them."""

from __future__ import annotations

from datetime import datetime


def seconds_of(timestamp: str | None) -> float | None:
    """A time as the API writes it, as Unix seconds. None for none, and for what isn't one."""
    if timestamp is None:
        return None
    try:
        return datetime.fromisoformat(timestamp).timestamp()
    except (TypeError, ValueError):
        return None


def ago(seconds: float) -> str:
    """``just now``, ``12 s ago``, ``3 min ago``, ``in 5 min``."""
    if abs(seconds) < 1:
        return "just now"
    return f"in {span(-seconds)}" if seconds < 0 else f"{span(seconds)} ago"


def span(seconds: float) -> str:
    """``12 s``, ``3 min 5 s``, ``2 h 7 min``, ``3 d 4 h``."""
    whole = round(seconds)
    for large, small, names in ((86_400, 3_600, "d h"), (3_600, 60, "h min"), (60, 1, "min s")):
        if whole >= large:
            first, second = names.split()
            rest = whole % large // small
            return f"{whole // large} {first}" + (f" {rest} {second}" if rest else "")
    return f"{whole} s"
