"""One line for people on stderr, exit statuses, and the form of an output: for commands with and without Redis."""

from __future__ import annotations

from typing import Annotated, Literal, NoReturn

import typer

from .terminal import printable

FAILED = 1
USAGE = 2

Output = Annotated[Literal["text", "json"], typer.Option("--output", "-o", help="text or json.")]

Kubeconfig = Annotated[
    str,
    typer.Option(
        envvar="KUBECONFIG",
        show_envvar=True,
        help="Which cluster. Default: the pod's service account, else ~/.kube/config.",
        show_default=False,
    ),
]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="The pool's. Default: that of the current context.")
]
"""Options of commands that may ask a cluster; here, so that naming them loads no Kubernetes client."""


def fail(message: str, code: int = FAILED) -> NoReturn:
    """One line on stderr, and out."""
    note(message)
    raise typer.Exit(code)


def note(message: str) -> None:
    """One line on stderr."""
    typer.echo(f"llmpool: {printable(message)}", err=True)
