"""SIGINT, SIGTERM and SIGHUP as an orderly end: children stopped, temporary folders and keys removed."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """While entered, the first of these signals raises SystemExit(128 + number), so that every block is left in order.

    Later ones are ignored, since they would cut that short. Where :meth:`heard_by` is in force, nothing is raised.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        """The first signal that came."""
        self._listener: Callable[[], object] | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextmanager
    def heard_by(self, listener: Callable[[], object]) -> Iterator[None]:
        """Call ``listener`` at each signal instead, for as long as the block lasts: for an event loop."""
        self._listener = listener
        try:
            yield
        finally:
            self._listener = None

    @property
    def exit_status(self) -> int | None:
        """As shells have it: 130 after Ctrl-C. None: no signal came."""
        return None if self.number is None else 128 + self.number

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        first = self.number is None
        if first:
            self.number = number
        if self._listener is not None:
            self._listener()
        elif first:
            raise SystemExit(128 + number)
