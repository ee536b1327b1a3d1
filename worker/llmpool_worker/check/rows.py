"""What a check found, row by row, and how it is shown."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum


class State(StrEnum):
    """How a row stands. UNKNOWN: it couldn't be found out, which is never taken for OK."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was looked at."""

    name: str
    state: State
    found: str
    advice: str = ""
    """What to do about it; empty: nothing."""

    @classmethod
    def ok(cls, name: str, found: str) -> Row:
        """As it should be."""
        return cls(name, State.OK, found)

    @classmethod
    def warn(cls, name: str, found: str, advice: str) -> Row:
        """A worker can run so, at a price."""
        return cls(name, State.WARN, found, advice)

    @classmethod
    def fail(cls, name: str, found: str, advice: str) -> Row:
        """A worker can't do all of its work so."""
        return cls(name, State.FAIL, found, advice)

    @classmethod
    def unknown(cls, name: str, found: str, advice: str = "") -> Row:
        """It couldn't be found out."""
        return cls(name, State.UNKNOWN, found, advice)


def failed(rows: Sequence[Row]) -> bool:
    """Whether something must be done before a worker starts. Warnings and gaps are for a person to judge."""
    return any(row.state is State.FAIL for row in rows)


def as_text(rows: Sequence[Row], width: int = 120) -> str:
    """A plain table; what to do is below its row."""
    indent = 9 + max((len(row.name) for row in rows), default=0) + 2
    lines = []
    for row in rows:
        head = f"{row.state:<9}{row.name}".ljust(indent)
        lines += _wrapped(row.found, width, head, indent) or [head.rstrip()]
        lines += _wrapped(row.advice, width, " " * indent + "-> ", indent)
    return "\n".join(lines) + "\n"


def _wrapped(text: str, width: int, head: str, indent: int) -> list[str]:
    # Never within a word: what is advised is there to be copied.
    wrapper = textwrap.TextWrapper(
        width, initial_indent=head, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )
    return wrapper.wrap(text)


def as_json(rows: Sequence[Row]) -> str:
    """An array of objects with ``name``, ``state``, ``found`` and ``advice``."""
    return json.dumps([asdict(row) for row in rows], indent=2) + "\n"
