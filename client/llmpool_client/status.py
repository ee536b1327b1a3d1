"""Where a job stands, decided from what its keys held at one moment."""

from __future__ import annotations

from enum import StrEnum

from pydantic import ValidationError

from llmpool_contract import Result

from .errors import UnreadableReply


class JobStatus(StrEnum):
    """A job's way. The last four are its ends, spelt as in the result."""

    UNKNOWN = "unknown"
    """No trace of the id: never seen, forgotten, or pushed by bare RPUSH and not yet claimed."""
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    """Between two attempts."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_end(self) -> bool:
        """Whether there is a result."""
        return self in _ENDS


_ENDS = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED})


def job_status(result: Result | None, mark: bytes | None, *, claimed: bool) -> JobStatus:
    """Decide. ``mark`` is the ids key: ``queued``, or ``mark.py``'s once claimed (``claimed``: still so)."""
    if result is not None:
        return JobStatus(result.status.value)
    if mark is None:
        return JobStatus.UNKNOWN
    if mark == b"queued":
        return JobStatus.QUEUED
    return JobStatus.RUNNING if claimed else JobStatus.WAITING


def read_result(raw: bytes, job_id: str) -> Result:
    """Parse a result's JSON.

    Raises:
        UnreadableReply: naming the field, without its value.
    """
    try:
        return Result.model_validate_json(raw)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in fault["loc"]) or "JSON"
        raise UnreadableReply(f"result of job {job_id}: {where}: {fault['msg']}") from None
