"""From what a caller gives to the bytes that go into a list. Nothing leaves unless a worker would take it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from llmpool_contract import PRIORITIES, BadJob, BadName, Job, QueueKeys, parse_job
from llmpool_contract.keys import DEFAULT_QUEUES

QUEUE_OF_TYPE = {job_type: queue for queue, job_type in DEFAULT_QUEUES.items()}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A checked job on its way out."""

    id: str
    id_is_ours: bool
    """Made here, so nobody else can have submitted it."""
    keys: QueueKeys
    list_name: str
    body: bytes


def prepare(
    job: Job | Mapping[str, Any] | None,
    fields: Mapping[str, Any],
    *,
    queue: str | None,
    priority: str,
    new_id: str,
    now_s: float,
) -> Prepared:
    """Merge, fill in ``id`` and ``enqueued_at`` where absent, check, and choose the list.

    Raises:
        BadJob: naming the field; never with the prompt.
        BadName: a queue or priority that doesn't exist.
    """
    if priority not in PRIORITIES:
        raise BadName(f"priority: got {priority!r}, allowed are {', '.join(PRIORITIES)}")
    given = _fields_of(job) | dict(fields)
    merged: dict[str, Any] = {"id": new_id, "enqueued_at": now_s}
    merged |= {name: value for name, value in given.items() if value is not None}
    body = _encode(merged)
    checked = parse_job(body)
    keys = QueueKeys(queue if queue is not None else QUEUE_OF_TYPE[checked.type])
    assert checked.id is not None  # filled in above
    return Prepared(checked.id, checked.id == new_id, keys, keys.list_of(priority), body)


def id_from(now_ms: int, random_bits: int) -> str:
    """A job id that sorts by time: 48 bits of Unix ms, then 80 random bits, as 32 hex digits."""
    return f"{now_ms & (1 << 48) - 1:012x}{random_bits & (1 << 80) - 1:020x}"


def _fields_of(job: Job | Mapping[str, Any] | None) -> dict[str, Any]:
    if job is None:
        return {}
    return job.model_dump(mode="json", exclude_defaults=True) if isinstance(job, Job) else dict(job)


def _encode(fields: dict[str, Any]) -> bytes:
    try:
        text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"), default=_plain)
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadJob("not_json", "job: a string has a lone surrogate") from None
    except (TypeError, ValueError, RecursionError) as error:  # not JSON's types, a circle, nested too deeply
        raise BadJob("not_json", f"job: can't be written as JSON: {error}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    raise TypeError(f"{type(value).__name__} is not a JSON type")
