"""One event per settled claim, and who hears of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class JobEvent:
    """What became of one claim. Holds no word of a prompt or an answer. Durations in seconds; None: not known."""

    queue: str
    job_id: str
    handle: str
    outcome: str
    """succeeded, failed, cancelled, expired, retried, postponed, released, dropped or lost."""
    job_type: str | None = None
    model: str | None = None
    code: str | None = None
    """The error's, where there was one."""
    reason: str | None = None
    """In our own words, without any of the job's or the server's."""
    attempts: int = 0
    deliveries: int = 0
    queued_s: float | None = None
    running_s: float | None = None
    first_token_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class Hook(Protocol):
    """Hears of every settled claim. Must return at once: slow things queue for themselves."""

    def __call__(self, event: JobEvent) -> None: ...


class Teller:
    """Tells every hook. A hook's failure is logged and ends there."""

    def __init__(self, hooks: Sequence[Hook]) -> None:
        self._hooks = tuple(hooks)

    def tell(self, event: JobEvent) -> None:
        """Hand the event to each hook."""
        for hook in self._hooks:
            try:
                hook(event)
            except Exception:
                log.exception("hook_failed", hook=getattr(hook, "__name__", type(hook).__name__))
