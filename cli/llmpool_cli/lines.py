"""One line for people on stderr, exit statuses, and the form of an output: for commands with and without Redis."""

from __future__ import annotations

from typing import Annotated, Literal, NoReturn

import typer

from .terminal import printable

FAILED = 1
USAGE = 2

Output = Annotated[Literal["text", "json"], typer.Option("--output", "-o", help="text or json.")]


def fail(message: str, code: int = FAILED) -> NoReturn:
    """One line on stderr, and out."""
    note(message)
    raise typer.Exit(code)


def note(message: str) -> None:
    """One line on stderr."""
    typer.echo(f"llmpool: {printable(message)}", err=True)
