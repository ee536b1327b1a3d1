"""Logs: JSON lines, or for a person at a terminal, plain ones."""

from __future__ import annotations

import logging
import sys

import structlog

from .events import JobEvent

log = structlog.get_logger()

_QUIET = frozenset({"succeeded", "released"})
_LOUD = frozenset({"failed", "postponed", "lost"})


def configure(level: str, *, tty: bool | None = None) -> None:
    """Set up structlog for the whole process. ``level``: debug, info, warning or error."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _renderer(sys.stderr.isatty() if tty is None else tty),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def _renderer(tty: bool) -> structlog.typing.Processor:
    if not tty:
        return structlog.processors.JSONRenderer()
    # Never rich's tracebacks: they show local variables, and those hold prompts.
    return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)


def log_event(event: JobEvent) -> None:
    """A line per claim: at debug where all went well, so that a busy worker's log is about what didn't."""
    say = log.debug if event.outcome in _QUIET else log.warning if event.outcome in _LOUD else log.info
    say(
        "job",
        queue=event.queue,
        job=event.job_id,
        handle=event.handle,
        outcome=event.outcome,
        model=event.model,
        code=event.code,
        reason=event.reason,
        attempts=event.attempts,
        running_s=event.running_s,
    )
