"""What ``{q}:ids:<id>`` says of a live job: whose it is, and after a retry why it waits."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, ValidationError

QUEUED = b"queued"
"""The value where the client pushed the job and no worker has checked it yet."""
_MARK = re.compile(rb"(\S+) (\S+)(?: (.+))?", re.DOTALL)


class _Part(BaseModel):
    """Unknown fields are ignored, so that an older client reads a newer worker's notes."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class WaitsFor(_Part):
    """What has to happen before the job can be asked again, beside time. At most one of these is set."""

    model: str | None = None
    """To become resident."""
    breaker: str | None = None
    """To close, or to let a probe through: that of this model."""
    until_ms: int | None = None
    """When the breaker's next probe is, Unix ms by Redis' clock."""
    retry_budget: bool = False
    """The pool's retries are used up for now."""


class Note(_Part):
    """Why a worker gave a job back to wait. Never holds a prompt or an answer."""

    code: str
    """One of the error codes of docs/jobs.md."""
    reason: str = Field(default="", max_length=2_000)
    at_ms: int
    """When it was written, Unix ms by Redis' clock."""
    due_ms: int | None = None
    """When the job is ready again."""
    attempts: int | None = None
    """Attempts that counted so far."""
    waits_for: WaitsFor | None = None

    def to_json(self) -> bytes:
        """Compact JSON without what isn't set."""
        return self.model_dump_json(exclude_none=True, exclude_defaults=True).encode()


@dataclass(frozen=True, slots=True)
class Mark:
    """A job that a worker has checked."""

    origin: str
    """The handle of its first claim."""
    handle: str
    """The handle of its latest claim."""
    note: Note | None = None
    note_fault: str | None = None
    """Why there is a note that can't be read: which field, without its value."""

    def to_bytes(self) -> bytes:
        """The key's value. An unread note is lost."""
        text = f"{self.origin} {self.handle}".encode()
        return text if self.note is None else text + b" " + self.note.to_json()


def read_mark(raw: bytes) -> Mark | None:
    """None for ``queued``, and for anything that no worker of this project wrote."""
    match = None if raw == QUEUED else _MARK.fullmatch(raw)
    if match is None:
        return None
    origin, handle = match[1].decode("utf-8", "replace"), match[2].decode("utf-8", "replace")
    if match[3] is None:
        return Mark(origin, handle)
    try:
        return Mark(origin, handle, Note.model_validate_json(match[3]))
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in fault["loc"]) or "JSON"
        return Mark(origin, handle, note_fault=f"{where}: {fault['msg']}")
