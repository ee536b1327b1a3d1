"""Logs: one JSON object a line, or readable ones on a terminal. Standard logging (Kopf's, aiohttp's) joins them."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog


def set_up(level: str, *, pretty: bool | None = None) -> None:
    """Send all logs to stderr. ``pretty`` None: as stderr is a terminal or not."""
    shown = sys.stderr.isatty() if pretty is None else pretty
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Tracebacks are text by then; rich's would show local variables, and those may hold passwords.
    console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    renderer: Any = console if shown else structlog.processors.JSONRenderer()
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            renderer,
        ],
        foreign_pre_chain=shared,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # Kopf tells every event at INFO; its warnings are worth reading, but for one: it gets no signals, they are ours.
    logging.getLogger("kopf").setLevel(logging.WARNING)
    logging.getLogger("kopf._core.reactor.running").addFilter(lambda record: "OS signals" not in record.getMessage())
    # It warns at each try of a login; ours says what was tried, once.
    logging.getLogger("kubernetes.aio.config.kube_config").setLevel(logging.ERROR)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
