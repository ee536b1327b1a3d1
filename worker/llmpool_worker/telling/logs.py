"""Logs: JSON lines, or for a person at a terminal, plain ones."""

from __future__ import annotations

import logging
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TextIO, cast

import structlog

from .events import JobEvent

log = structlog.get_logger()

_QUIET = frozenset({"succeeded", "released"})
_LOUD = frozenset({"failed", "postponed", "lost"})


_FILE_BYTES = 10_000_000
_OLDER_FILES = 3


def configure(level: str, *, tty: bool | None = None, file: Path | None = None) -> None:
    """Set up structlog for the whole process. ``level``: debug, info, warning or error.

    ``file`` gets the same lines as JSON. Raises OSError where it can't be written.
    """
    out: TextIO | _Both = sys.stderr
    if file is not None:
        out = _Both(sys.stderr, RotatingFileHandler(file, maxBytes=_FILE_BYTES, backupCount=_OLDER_FILES))
        tty = False
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _renderer(sys.stderr.isatty() if tty is None else tty),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", out)),
        cache_logger_on_first_use=True,
    )


class _Both:
    """What structlog writes lines to: stderr and a file that rotates."""

    def __init__(self, stream: TextIO, file: RotatingFileHandler) -> None:
        self._stream = stream
        self._file = file

    def write(self, text: str) -> None:
        """One line, its end included. A file that has become unwritable is told on stderr; the line is there, too."""
        self._stream.write(text)
        self._file.emit(logging.makeLogRecord({"msg": text.rstrip("\n")}))

    def flush(self) -> None:
        """As a stream's; the file flushes each line itself."""
        self._stream.flush()


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
