"""One event per settled claim, and who hears of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import structlog

log = structlog.get_logger()

BreakerState = Literal["closed", "half_open", "open"]


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
    """The one that the job asks for."""
    code: str | None = None
    """The error's, where there was one."""
    reason: str | None = None
    """In our own words, without any of the job's or the server's."""
    attempts: int = 0
    deliveries: int = 0
    queued_s: float | None = None
    running_s: float | None = None
    """From this attempt's beginning to its end; None or 0: no model was asked."""
    first_token_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    worker: str | None = None
    tenant: str | None = None
    """The job's own word: never a metric's label."""
    traceparent: str | None = None
    """The job's own (W3C Trace Context), not yet looked at."""
    model_used: str | None = None
    """The one that was asked; None: none was, or the one that the job asks for."""
    finish_reason: str | None = None
    """As the model server has it."""
    slot_wait_s: float | None = None
    """From the claim to the attempt's beginning."""
    load_s: float | None = None
    """Loading the model, as the server tells it, like the next two."""
    prompt_s: float | None = None
    eval_s: float | None = None
    rules: tuple[str, ...] = ()
    """Ids of the content rules that matched."""
    stream: bool = False
    ended_at: float = field(default_factory=time.time)
    """When the attempt ended, Unix seconds by this host's clock; left out: when this event was made."""

    @property
    def asked(self) -> str | None:
        """The model that was asked, None where none was."""
        return (self.model_used or self.model) if self.running_s else None

    @property
    def fallback_from(self) -> str | None:
        """The model that another one stood in for, None where none did."""
        return self.model if self.asked not in (None, self.model) else None

    @property
    def tokens_per_s(self) -> float | None:
        """Output tokens per second of generation: by the server's own time, else from the first token on."""
        if self.outcome != "succeeded" or not self.output_tokens:
            return None
        generating = self.eval_s
        if generating is None and self.running_s is not None and self.first_token_s is not None:
            generating = self.running_s - self.first_token_s
        return self.output_tokens / generating if generating and generating > 0 else None


@dataclass(frozen=True, slots=True)
class BreakerChange:
    """A circuit breaker took another state."""

    model: str | None
    """None: the breaker of the whole model server."""
    state: BreakerState
    failure_ratio: float | None = None
    """Failures among the calls that it looked at, 0..1; None: too few to say."""
    at: float = field(default_factory=time.time)
    """Unix seconds."""


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
                # Whatever is wrong with a hook, the job has ended and stays as it ended.
                log.exception("hook_failed", hook=getattr(hook, "__name__", type(hook).__name__))
