"""What a model server's words and statuses mean for a job. Pure."""

from __future__ import annotations

import json
from typing import Any

from .errors import BackendError, ErrorKind

MAX_RETRY_AFTER_S = 60.0

_LOAD_FAILED = (
    "requires more system memory",
    "has terminated",
    "unable to load",
    "failed to load",
    "error loading model",
    "timed out waiting for",
)
"""How Ollama says, under 5xx and before any answer, that a model's runner didn't come up (its llm/server.go)."""

EMBED_CRASH = "do embedding request"
"""How Ollama's message begins where it lost its runner under an embedding."""


def json_object(raw: bytes) -> dict[str, Any]:
    """What a server sent, as an object. Raises BackendError."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise BackendError(ErrorKind.RETRYABLE, "backend_not_json", "the server's answer is not JSON") from None
    if not isinstance(value, dict):
        raise BackendError(ErrorKind.RETRYABLE, "backend_not_json", "the server's answer is not a JSON object")
    return value


def error_text(answer: dict[str, Any]) -> str | None:
    """The server's own words, whichever of the two usual shapes they come in."""
    error = answer.get("error")
    if isinstance(error, dict):
        error = error.get("message")
    return str(error) if error else None


def status_error(status: int, body: bytes, retry_after: str | None = None) -> BackendError:
    """What an HTTP status other than 200 means for the job.

    404 in the server's own words: no such model; without them it is of something in between, and may pass. 503 and 429:
    full, or still loading; nothing was asked. 408 and 499 are time-outs, and 5xx failures, all worth another attempt.
    The rest, redirects and 501 too, won't change by asking again.
    """
    try:
        said = error_text(json_object(body))
    except BackendError:
        said = None
    reason = f"HTTP {status} from the model server"
    match status:
        case 404 if said is not None:
            return BackendError(ErrorKind.PERMANENT, "model_not_found", "the model server has no such model", said=said)
        case 503 | 429:
            wait_s = seconds_of(retry_after)
            return BackendError(ErrorKind.UNAVAILABLE, "backend_busy", reason, said=said, retry_after_s=wait_s)
        case 499:
            return BackendError(ErrorKind.RETRYABLE, "backend_cancelled", reason, said=said)
        case _ if (300 <= status < 500 and status not in (404, 408)) or status == 501:
            return BackendError(ErrorKind.PERMANENT, "refused", reason, said=said)
        case _ if status >= 500 and said is not None and any(sign in said for sign in _LOAD_FAILED):
            return BackendError(ErrorKind.RETRYABLE, "load_failed", "the model could not be loaded", said=said)
    return BackendError(ErrorKind.RETRYABLE, "backend_failed", reason, said=said)


def stream_error(line: dict[str, Any]) -> BackendError:
    """An error in the middle of an answer."""
    return BackendError(ErrorKind.RETRYABLE, "backend_failed", "an error in the answer's stream", said=error_text(line))


def seconds_of(retry_after: str | None) -> float | None:
    """A Retry-After header, at most :data:`MAX_RETRY_AFTER_S`. None: there is none, or a date, which needs a clock."""
    if retry_after is None or not retry_after.isdecimal():
        return None
    return min(float(retry_after), MAX_RETRY_AFTER_S)


def incomplete() -> BackendError:
    """A stream that just ended. Never taken for an answer."""
    return BackendError(
        ErrorKind.RETRYABLE, "incomplete", "the answer ended without the server's word that it is whole"
    )


def vectors_missing(wanted: int) -> BackendError:
    """Fewer vectors than inputs."""
    return BackendError(ErrorKind.RETRYABLE, "incomplete", f"vectors for {wanted} inputs did not all come")


def embed_error(status: int, error: BackendError, signs: tuple[str, ...] = (EMBED_CRASH,)) -> BackendError:
    """Ollama answers 400 also when the runner died under an embedding (server/routes.go), which is not the job's fault:
    told apart by ``signs`` in its message. Few of them where other servers may answer, whose messages repeat inputs."""
    if status == 400 and any(sign in error.message for sign in signs):
        return BackendError(ErrorKind.RETRYABLE, "runner_died", "the model's runner died under an embedding")
    return error
