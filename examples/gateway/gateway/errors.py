"""Errors in OpenAI's format, each with its HTTP status."""

from __future__ import annotations

import re
from typing import Any

from llmpool_client import BadJob, BadName, QueueFull, Result, ResultTimeout, Status

_OF_CODE = {
    "invalid": 400,
    "not_json": 400,
    "refused": 400,
    "filtered": 400,
    "too_large": 413,
    "model_not_found": 404,
    "timeout": 504,
}
"""A failed job's code -> status; all others are 502: something behind the gateway failed."""
_OF_END = {Status.CANCELLED: 499, Status.EXPIRED: 504}
_FIELD = re.compile(r"body\.([A-Za-z0-9_.]+):")


class GatewayError(Exception):
    """One answer that isn't the model's."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        job_id: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {"message": message, "type": _kind(status), "param": param, "code": code}
        if job_id is not None:
            self.body["job_id"] = job_id
        # OpenAI's clients try 408, 409, 429 and all 5xx again by themselves; without an Idempotency-Key that would be
        # a second job beside one that may still run.
        self.headers = {"x-should-retry": "true" if retry_after_s is not None else "false"}
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(retry_after_s)


def _kind(status: int) -> str:
    if status == 401:
        return "authentication_error"
    if status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if status < 499 else "server_error"


def of_result(result: Result) -> GatewayError:
    """The error for a job that ended without an answer."""
    if result.status in _OF_END:
        return GatewayError(_OF_END[result.status], str(result.status), f"the job {result.status}", job_id=result.id)
    code = result.error.code if result.error else "failed"
    message = result.error.message if result.error else "the job failed"
    return GatewayError(_OF_CODE.get(code, 502), code, message, job_id=result.id)


def of_exception(error: Exception, job_id: str | None = None) -> GatewayError:
    """The error for what the client raised. Redis' own words stay inside: its address is nobody's business here."""
    match error:
        case GatewayError():
            return error
        case BadJob() | BadName():
            field = _FIELD.search(str(error))
            status = 413 if isinstance(error, BadJob) and error.code == "too_large" else 400
            return GatewayError(status, "invalid_value", str(error), param=field[1] if field else None)
        case QueueFull():
            return GatewayError(429, "queue_full", "too many requests wait already; try again later", retry_after_s=2)
        case ResultTimeout():
            message = f"no answer in time; the job goes on, ask for it at /v1/jobs/{error.job_id}"
            return GatewayError(504, "no_answer_yet", message, job_id=error.job_id)
    return GatewayError(503, "queue_unavailable", "the queue can't be reached or refused the request", job_id=job_id)
