"""What a failure says of server and model, and whether another model of the job's chain is asked at once.

Whether the job itself gets another attempt is :mod:`.policy`'s, by the error's kind. Ollama's side of it: its
``server/routes.go`` and ``server/sched.go``.
"""

from __future__ import annotations

from dataclasses import dataclass

from .backends.base import BackendError, ErrorKind
from .breakers import Counts


@dataclass(frozen=True, slots=True)
class Handling:
    """Of one error code."""

    counts: Counts
    goes_on: bool
    """To the next model of the chain, in the same attempt. Else the job's fate is decided by this error."""
    why: str


_AGAIN = "may pass: the same model is asked again after a wait"

HANDLING = {
    "model_not_found": Handling(Counts.ANSWERED, True, "won't pass by waiting, and another model may be there"),
    "load_failed": Handling(Counts.FAILURE, True, "the model doesn't fit now, and a smaller one may"),
    "backend_failed": Handling(Counts.FAILURE, False, _AGAIN),
    "backend_stalled": Handling(Counts.FAILURE, False, "a stuck server answers for no other model either"),
    "backend_broke": Handling(Counts.FAILURE, False, _AGAIN),
    "backend_cancelled": Handling(Counts.ANSWERED, False, "the server heard us, or something in between, hang up"),
    "incomplete": Handling(Counts.FAILURE, False, _AGAIN),
    "runner_died": Handling(Counts.FAILURE, False, "the server starts a new runner for the next request"),
    "backend_not_json": Handling(Counts.FAILURE, False, "something in between answers, for all models alike"),
    "line_too_long": Handling(Counts.ANSWERED, False, "the answer's size is the job's doing"),
    "answer_too_large": Handling(Counts.ANSWERED, False, "the answer's size is the job's doing"),
    "output_too_large": Handling(Counts.ANSWERED, False, "the answer's size is the job's doing"),
    "refused": Handling(Counts.ANSWERED, False, "the request is at fault, not the model"),
    "backend_busy": Handling(Counts.ANSWERED, False, "the server is full for every model: waiting helps, asking not"),
    "backend_unreachable": Handling(Counts.UNREACHABLE, False, "no model of this server can be asked"),
    "backend_url": Handling(Counts.NOTHING, False, "nothing was asked"),
    "timeout": Handling(Counts.NOTHING, False, "the job's own time is over: no judgement of the server"),
    "filtered": Handling(Counts.NOTHING, False, "a rule of ours, which is the same for every model"),
    "filter_unavailable": Handling(Counts.NOTHING, False, "the hook gave no word: the model has nothing to do with it"),
    "breaker_open": Handling(Counts.NOTHING, False, "nothing was asked"),
    "model_not_open": Handling(Counts.NOTHING, False, "nothing was asked"),
    "retry_budget": Handling(Counts.NOTHING, False, "nothing was asked"),
    "internal": Handling(Counts.NOTHING, False, "most likely a bug of the worker"),
}

_BY_KIND = {
    ErrorKind.PERMANENT: Handling(Counts.ANSWERED, False, "the same request would fail again"),
    ErrorKind.RETRYABLE: Handling(Counts.FAILURE, False, _AGAIN),
    ErrorKind.UNAVAILABLE: Handling(Counts.ANSWERED, False, "nothing was asked of the model"),
}


def handling_of(error: BackendError) -> Handling:
    """The row of its code; one without a row is handled by its kind."""
    return HANDLING.get(error.code) or _BY_KIND[error.kind]
