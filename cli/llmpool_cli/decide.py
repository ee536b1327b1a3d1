"""``llmpool decide``: the operator's decision as a filter, so that anyone can test it from outside.

What a line may hold and what comes out: docs/scaling.md.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from .decide_case import LINE_MAX_BYTES, BadCase, answer, parse
from .session import FAILED, USAGE, fail


def decide(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="JSON lines; - or none is stdin.")
    ] = None,
) -> None:
    """Decide a size for each line of JSON: spec.scaling, the size now, metrics or a desired size, and what was before.

    A line that can't be read gets an error line in its place, and the exit status is 1.
    """
    try:
        failures = sum(_filter(number, line) for number, line in _numbered(files or [Path("-")]))
    except BrokenPipeError:  # whoever read us has had enough; leave nothing to be flushed at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(FAILED) from None
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}", USAGE)
    if failures:
        raise typer.Exit(FAILED)


def _filter(number: int, line: bytes | None) -> bool:
    """Answer one line; whether it failed."""
    outcome, failed = _outcome(line)
    if failed:
        outcome["line"] = number
    sys.stdout.write(json.dumps(outcome, ensure_ascii=False) + "\n")
    sys.stdout.flush()
    return failed


def _outcome(line: bytes | None) -> tuple[dict[str, Any], bool]:
    try:
        return answer(parse(line)), False
    except BadCase as error:
        return {"error": str(error)}, True


def _numbered(files: Iterable[Path]) -> Iterator[tuple[int, bytes | None]]:
    """The lines of all files, each numbered from 1 within its file. Blank ones get no answer."""
    for file in files:
        if str(file) == "-":
            yield from _lines(sys.stdin.buffer)
        else:
            with file.open("rb") as stream:
                yield from _lines(stream)


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    number = 0
    while line := stream.readline(LINE_MAX_BYTES + 1):
        number += 1
        if len(line) > LINE_MAX_BYTES and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = stream.readline(LINE_MAX_BYTES)
            yield number, None
        elif line.strip():
            yield number, line
