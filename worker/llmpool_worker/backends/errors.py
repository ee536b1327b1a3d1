"""How a request to a model server can fail, and what that means for the job and for the breaker."""

from __future__ import annotations

from enum import StrEnum


class ErrorKind(StrEnum):
    """What a failure means for the job."""

    PERMANENT = "permanent"
    """The same request will fail again: bad request, no such model."""
    RETRYABLE = "retryable"
    """The server failed at it: costs an attempt."""
    UNAVAILABLE = "unavailable"
    """Nothing was asked: the server is full, or isn't there. Costs no attempt."""


class BackendError(Exception):
    """A request failed. ``reason`` is in our own words, for dead letters and logs; ``message`` has the server's words
    too, bounded, and is only for the job's own result: servers repeat requests in their errors."""

    def __init__(
        self,
        kind: ErrorKind,
        code: str,
        reason: str,
        *,
        said: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.kind = kind
        self.code = code
        self.reason = reason
        whole = reason if said is None else f"{reason}: {said}"
        self.message = whole[:1_000].encode("utf-8", "replace").decode()  # JSON can carry lone surrogates
        self.retry_after_s = retry_after_s
