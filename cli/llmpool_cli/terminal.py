"""Text for people: safe to print, aligned where it is a table."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

import typer

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Without what could steer a terminal: control and direction characters; line ends and tabs stay.

    Ids, reasons and answers were written by strangers and models.
    """
    return _CONTROLS.sub("", text)


def for_stdout(text: str) -> str:
    """As it is into a pipe or file, printable on a terminal."""
    return printable(text) if sys.stdout.isatty() else text


def out(text: str) -> None:
    """A line of somebody else's text on stdout; into a pipe to the byte, which typer.echo would not do."""
    sys.stdout.write(for_stdout(text) + "\n")


def duration(seconds: float | None) -> str:
    """``-``, ``12s``, ``3m05s``, ``2h07m``, ``3d04h``."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    for unit, large, small in (("d", 86_400, 3_600), ("h", 3_600, 60), ("m", 60, 1)):
        if whole >= large:
            return f"{whole // large}{unit}{whole % large // small:02d}{'dhms'['dhms'.index(unit) + 1]}"
    return f"{whole}s"


def table(headers: Sequence[str], rows: Sequence[Sequence[str | int]]) -> None:
    """Print rows: by rich on a terminal, as aligned text elsewhere. Numbers stand to the right."""
    texts = [[printable(str(cell)).replace("\n", " ").replace("\t", " ") for cell in row] for row in rows]
    numeric = [bool(rows) and all(isinstance(row[n], int) for row in rows) for n in range(len(headers))]
    if sys.stdout.isatty():
        _rich_table(headers, texts, numeric)
        return
    widths = [max(len(line[n]) for line in [list(headers), *texts]) for n in range(len(headers))]
    for line in [list(headers), *texts]:
        cells = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        )
        typer.echo("  ".join(cells).rstrip())


def _rich_table(headers: Sequence[str], texts: list[list[str]], numeric: list[bool]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, header_style="bold", pad_edge=False)
    for header, right in zip(headers, numeric, strict=True):
        shown.add_column(header, justify="right" if right else "left", overflow="fold")
    for line in texts:
        shown.add_row(*(Text(cell) for cell in line))  # Text: an id such as [red] is not markup
    Console().print(shown)
