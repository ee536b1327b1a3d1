"""A batch's record: what Redis keeps of it beside its jobs, and the names that follow from it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import get_args

from llmpool_client.errors import UnreadableReply
from llmpool_contract import PRIORITIES, BadName, Priority
from llmpool_contract.result import RESULT_TTL_MS

from .requests import Endpoint

WINDOW_S = 86_400.0
"""OpenAI's completion window: after it a request that hasn't run expires."""
KEEP_S = RESULT_TTL_MS / 1_000
"""Life of the record past the window, s: as long as a result lives by default, so that it outlives the last one."""

_BATCH_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
MAX_NAME = 128
"""Characters."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch as it was submitted. Fields are those of the HASH; times are Unix ms by Redis' clock."""

    id: str
    queue: str
    name: str
    endpoint: Endpoint
    digest: str
    """SHA-256 of the file's lines: another file under the same id is refused."""
    priority: Priority
    total: int
    """Requests in the file."""
    submitted: int
    """How many of them, from the file's beginning, have been pushed or noted as impossible."""
    created_ms: int
    deadline_ms: int
    """A request that hasn't run by then expires."""
    expires_ms: int
    """When this record is forgotten, and with it which results belong together."""
    cancelled_ms: int | None = None
    """When somebody wished it cancelled."""

    @property
    def whole(self) -> bool:
        """Whether the submit has gone through. If not, the same submit again goes on with it."""
        return self.submitted >= self.total

    def job_id(self, custom_id: str) -> str:
        """The job of one request: the same for every submit of this batch, so that a repeat runs nothing twice."""
        return job_id_of(self.id, custom_id)


def read_batch(raw: Mapping[bytes, bytes], where: str) -> Batch:
    """A record from its HASH.

    Raises:
        UnreadableReply: naming the key and the field.
    """
    found = {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in raw.items()}
    values: dict[str, str | int | None] = {}
    for field in fields(Batch):
        value = found.get(field.name)
        if field.type in ("int", "int | None") and value is not None:
            if not value.isdecimal():
                raise UnreadableReply(f"{where}: {field.name} is not a whole number")
            values[field.name] = int(value)
        elif value is None and field.name != "cancelled_ms":
            raise UnreadableReply(f"{where}: {field.name} is missing")
        else:
            values[field.name] = value
    for name, allowed in (("endpoint", get_args(Endpoint)), ("priority", PRIORITIES)):
        if values[name] not in allowed:
            raise UnreadableReply(f"{where}: {name} is none of {', '.join(allowed)}")
    return Batch(**values)  # type: ignore[arg-type]


def batch_id_of(digest: str, queue: str) -> str:
    """The id that a file has in a queue unless its submitter gives one: the same file again is the same batch."""
    return f"batch-{hashlib.sha256(f'{queue} {digest}'.encode()).hexdigest()[:20]}"


def job_id_of(batch_id: str, custom_id: str) -> str:
    """``<batch id>.<20 hex digits of the custom id's SHA-256>``: a custom id may hold what a job's id may not."""
    return f"{batch_id}.{hashlib.sha256(custom_id.encode()).hexdigest()[:20]}"


def checked_id(batch_id: str) -> str:
    """A batch id that can be part of a key and of its jobs' ids.

    Raises:
        BadName: it can't.
    """
    if not _BATCH_ID.fullmatch(batch_id):
        raise BadName(f"batch id: got {batch_id!r}, allowed are 1 to 100 letters, digits, '.', '_' and '-'")
    return batch_id


def checked_name(name: str) -> str:
    """A batch's name, for people.

    Raises:
        BadName: empty or too long.
    """
    if not 1 <= len(name) <= MAX_NAME:
        raise BadName(f"batch name: got {len(name)} characters, allowed are 1 to {MAX_NAME}")
    return name
