"""Showing a job's answer: piece by piece on a terminal, or whole."""

from __future__ import annotations

import json
import sys
from typing import Literal

import typer

from llmpool_client import End, JobRef, Reset, Result, ResultTimeout, Status, StreamEvent, SyncClient, Text, Thinking

from .session import FAILED, fail, note
from .terminal import for_stdout, out, printable

INTERRUPTED = 130
CANCEL_S = 5.0
"""How long a cancelled job is waited for, seconds: where no worker is, nobody answers it."""


class Screen:
    """What of an answer is on the terminal already."""

    def __init__(self) -> None:
        self.shown = ""

    def show(self, event: StreamEvent) -> None:
        """Print one event. The end is for :func:`finish`."""
        match event:
            case Text(text=text):
                sys.stdout.write(for_stdout(text))
                sys.stdout.flush()
                self.shown += text
            case Thinking(text=text) if sys.stderr.isatty():
                typer.secho(printable(text), err=True, nl=False, dim=True)
            case Reset(attempt=attempt) if self.shown:
                typer.echo()
                note(f"attempt {attempt} begins; the text above is void")
                self.shown = ""


def follow(client: SyncClient, ref: JobRef, screen: Screen | None, timeout: float | None) -> Result:
    """Wait for a result; a screen gets text as it comes. Ctrl-C cancels the job, a second one leaves."""
    try:
        return _wait(client, ref, screen, timeout)
    except ResultTimeout:
        where = client.status(ref)
        queue = f" --queue {ref.queue}"
        fail(f"job {ref.id}: no result after {timeout:g} s, it is {where}: llmpool result|cancel {ref.id}{queue}")
    except KeyboardInterrupt:
        return _cancel(client, ref)


def finish(result: Result, screen: Screen | None, output: Literal["text", "json"]) -> int:
    """Print what isn't there yet; the exit status."""
    succeeded = result.status is Status.SUCCEEDED
    if output == "json":
        typer.echo(result.to_json())
        return 0 if succeeded else FAILED
    shown = screen.shown if screen else ""
    if shown and not shown.endswith("\n"):
        typer.echo()
    if not succeeded:
        note(f"job {result.id} {_why(result)}")
        return FAILED
    if shown.strip() != _whole(result).strip():
        if shown:
            note("not all of the text came as a stream; the whole answer is:")
        out(_whole(result))
    return 0


def _wait(client: SyncClient, ref: JobRef, screen: Screen | None, timeout: float | None) -> Result:
    if screen is None:
        return client.result(ref, timeout=timeout)
    for event in client.stream(ref, timeout=timeout):
        if isinstance(event, End):
            return event.result
        screen.show(event)
    raise RuntimeError("a stream ended without its end")


def _cancel(client: SyncClient, ref: JobRef) -> Result:
    try:
        client.cancel(ref)
        typer.echo(err=True)
        note(f"cancelling job {ref.id}; Ctrl-C again to leave without waiting for it")
        return client.result(ref, timeout=CANCEL_S)
    except ResultTimeout:
        note(f"the wish stays: the job is {client.status(ref)}, and a worker that takes it will not run it")
        raise typer.Exit(INTERRUPTED) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _whole(result: Result) -> str:
    if result.embeddings is not None:
        return "\n".join(json.dumps(vector) for vector in result.embeddings)
    if not result.content and result.tool_calls:
        return json.dumps(result.tool_calls, ensure_ascii=False)
    return result.content or ""


def _why(result: Result) -> str:
    return f"{result.status}: {result.error.code}: {result.error.message}" if result.error else str(result.status)
