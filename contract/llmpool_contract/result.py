"""What a job comes to: the JSON at ``{q}:result:<id>``."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

RESULT_TTL_MS = 86_400_000
"""Default life of a result, ms: a day."""


class Status(StrEnum):
    """How a job ended. There is no other end."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class _Part(BaseModel):
    """Unknown fields are ignored, so that an older client reads a newer worker's results."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class Usage(_Part):
    """Tokens as the model server counted them. None: it didn't say."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    shared: bool | None = None
    """True: ``input_tokens`` is that of embedding calls which other jobs' inputs were in too."""


class Timings(_Part):
    """Seconds. None: this phase didn't happen, or nobody measured it."""

    queued: float | None = None
    """From ``enqueued_at`` (producer's clock) to the first claim (Redis' clock); absent without ``enqueued_at``."""
    running: float | None = None
    """From this attempt's claim to its end."""
    first_token: float | None = None
    """From the request to the first piece of text."""
    load: float | None = None
    """As the model server tells it."""


class JobError(_Part):
    """Why a job did not succeed. Never holds a prompt or an answer."""

    code: str
    """One of a small set: ``invalid``, ``not_json``, ``too_large``, ``poison``, ``timeout``, ..."""
    message: str = Field(max_length=2_000)


class Result(_Part):
    """A job's answer or its end without one."""

    id: str
    status: Status
    model_used: str | None = None
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    embeddings: list[list[float]] | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    attempts: int = 0
    """Times a model was asked, this last one included."""
    cached: bool | None = None
    """True: the answer is that of an earlier job that asked the same, and ``usage`` is what it took then."""
    error: JobError | None = None
    flags: list[str] | None = None
    """What content rules have to say of the job: ids of rules that flag, ``hook:...``, ``hook_unavailable``."""
    worker: str | None = None
    handle: str | None = None
    """The claim that settled the job: the fence against a late second answer."""
    metadata: dict[str, Any] | None = None

    def to_json(self) -> bytes:
        """Compact JSON without the fields that are None."""
        return self.model_dump_json(exclude_none=True).encode()
