"""Reading a trace of jobs: a CSV with arrival, input tokens, output tokens and perhaps a model."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

MOST_JOBS = 5_000_000
MOST_TOKENS = 10_000_000
_LONGEST_MODEL = 256
_LATEST = 1e11
"""Seconds: Unix time for 3,000 years to come, and no milliseconds."""
_MOST_FAULTS = 10

NAMES = {
    "arrival": ("arrival", "arrived", "arrivedat", "arrivaltime", "timestamp", "time"),
    "input": ("inputtokens", "input", "contexttokens", "prompttokens", "requesttokens", "numprefilltokens"),
    "output": ("outputtokens", "output", "generatedtokens", "completiontokens", "responsetokens", "numdecodetokens"),
    "model": ("model", "modelname"),
}
"""What a column may be called, without regard to case, spaces, ``_`` and ``-``: ours first, then public traces'."""


class TraceError(ValueError):
    """A file that isn't a trace. The message names line, column, what was given and what is allowed."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Jobs in the order of their arrival, as columns of one length."""

    name: str
    begins: float
    """Unix seconds of the beginning, as the trace has them: near 0 where its times are no moments."""
    span: float
    """Seconds from the beginning to the end of the time that is looked at, at least to the last arrival."""
    arrivals: list[float]
    """Seconds since the beginning."""
    inputs: list[int]
    outputs: list[int]
    models: list[str]

    def __len__(self) -> int:
        return len(self.arrivals)


def read_trace(path: Path) -> Trace:
    """Read a CSV with a header. Rows may be in any order; the first arrival is the beginning.

    Raises:
        TraceError: with the first faults, a line each.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _trace(path.name, csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError) as error:
        raise TraceError(f"{path.name}: can't be read: {error}") from None


def _trace(name: str, reader: Any) -> Trace:
    lines = _lines(name, reader)
    header = next(lines, (1, []))[1]
    columns = _columns(name, header)
    parsers = [(column, header[column], _PARSERS[field]) for field, column in columns.items()]
    rows: list[tuple[Any, ...]] = []
    faults: list[str] = []
    for line, cells in lines:
        try:
            rows.append(_row(header, cells, parsers))
        except ValueError as error:
            faults.append(f"{name} line {line}, {error}")
        if len(faults) == _MOST_FAULTS or len(rows) > MOST_JOBS:
            break
    if faults:
        raise TraceError("\n".join(faults))
    if not rows:
        raise TraceError(f"{name}: no job, wanted a header and a line for each job")
    if len(rows) > MOST_JOBS:
        raise TraceError(f"{name}: more than {MOST_JOBS} jobs, allowed are {MOST_JOBS}")
    return _in_order(name, rows, "model" in columns)


def _lines(name: str, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells, blank lines left out."""
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise TraceError(f"{name} line {reader.line_num}: not CSV: {error}") from None


def _columns(name: str, header: list[str]) -> dict[str, int]:
    """Where each field is, in the order of :data:`NAMES`."""
    plain = [re.sub(r"[\s_-]", "", cell).lower() for cell in header]
    found: dict[str, int] = {}
    for field, names in NAMES.items():
        at = [column for column, cell in enumerate(plain) if cell in names]
        if len(at) > 1:
            both = ", ".join(ascii(header[column]) for column in at)
            raise TraceError(f"{name} line 1: columns {both} all mean {field}, allowed is one of them")
        if not at and field != "model":
            given = ", ".join(ascii(cell[:40]) for cell in header[:20]) or "nothing"
            allowed = ", ".join(names)
            raise TraceError(f"{name} line 1: no column for {field}: got {given}, allowed are {allowed}")
        if at:
            found[field] = at[0]
    return found


def _row(header: list[str], cells: list[str], parsers: list[tuple[int, str, Callable[[str], Any]]]) -> tuple[Any, ...]:
    if len(cells) != len(header):
        raise ValueError(f"got {len(cells)} values, allowed are {len(header)} as in the header")
    row = []
    for column, title, parse in parsers:
        try:
            row.append(parse(cells[column]))
        except ValueError as error:
            raise ValueError(f"column {title}: got {cells[column][:40]!a}, allowed is {error}") from None
    return tuple(row)


def _arrival(text: str) -> tuple[float, bool]:
    """Seconds, and whether they are a moment: a number is taken as it is, a timestamp as UTC unless it says."""
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        if not 0 <= seconds <= _LATEST:
            raise ValueError(f"a number of seconds from 0 to {_LATEST:g}, or a timestamp")
        return seconds, False
    try:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp(), True
    except (ValueError, OverflowError):
        raise ValueError("seconds or a timestamp such as 2026-01-31 08:00:00.5") from None


def _tokens(text: str) -> int:
    if not (text.isascii() and (digits := text.strip()).isdigit() and len(digits) <= 12 and int(digits) <= MOST_TOKENS):
        raise ValueError(f"a whole number from 0 to {MOST_TOKENS}")
    return int(digits)


def _model(text: str) -> str:
    name = text.strip()
    if len(name) > _LONGEST_MODEL or not name.isprintable():
        raise ValueError(f"a name of at most {_LONGEST_MODEL} printable characters")
    return name


_PARSERS: dict[str, Callable[[str], Any]] = {
    "arrival": _arrival,
    "input": _tokens,
    "output": _tokens,
    "model": _model,
}


def _in_order(name: str, rows: list[tuple[Any, ...]], with_models: bool) -> Trace:
    kinds = {row[0][1] for row in rows}
    if len(kinds) > 1:
        raise TraceError(f"{name}: arrivals are both seconds and timestamps, allowed is one of them")
    rows.sort(key=lambda row: row[0][0])  # stable: jobs of one moment stay in the file's order
    first, last = rows[0][0][0], rows[-1][0][0]
    return Trace(
        name=name,
        begins=first,
        span=last - first,
        arrivals=[row[0][0] - first for row in rows],
        inputs=[row[1] for row in rows],
        outputs=[row[2] for row in rows],
        models=[row[3] for row in rows] if with_models else [""] * len(rows),
    )
