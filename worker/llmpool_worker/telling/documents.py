"""A job's event as JSON: what Kafka's consumers and the analytics service get (``docs/telemetry.md``). Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from .events import JobEvent

FIELDS: dict[str, str] = {
    "id": "job_id",
    "handle": "handle",
    "queue": "queue",
    "worker": "worker",
    "outcome": "outcome",
    "code": "code",
    "reason": "reason",
    "type": "job_type",
    "model": "model",
    "model_used": "asked",
    "fallback_from": "fallback_from",
    "tenant": "tenant",
    "stream": "stream",
    "finish_reason": "finish_reason",
    "attempts": "attempts",
    "deliveries": "deliveries",
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "queued_seconds": "queued_s",
    "slot_wait_seconds": "slot_wait_s",
    "running_seconds": "running_s",
    "first_token_seconds": "first_token_s",
    "load_seconds": "load_s",
    "prompt_seconds": "prompt_s",
    "eval_seconds": "eval_s",
    "rules": "rules",
}
"""Name in JSON -> the event's own."""

NOT_NEWS = frozenset({"postponed"})
"""Outcomes that only metrics and logs hear of: while a model server is away, each waiting job has one every few
seconds, and nothing has become of it."""


def document(event: JobEvent) -> dict[str, Any]:
    """The event without what isn't known. Seconds are rounded to the microsecond."""
    told: dict[str, Any] = {}
    for name, field in FIELDS.items():
        value = getattr(event, field)
        if value is None or value == ():
            continue
        told[name] = round(value, 6) if isinstance(value, float) else value
    return told | {"ended_at": timestamp(event.ended_at)}


def timestamp(unix_s: float) -> str:
    """RFC 3339 in UTC, with milliseconds."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
