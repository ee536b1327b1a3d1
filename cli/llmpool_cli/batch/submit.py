"""``llmpool batch submit``."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from llmpool_cli.answer import INTERRUPTED
from llmpool_cli.session import DEFAULT_REDIS_URL, FAILED, USAGE, Output, RedisUrl, ask, fail, note
from llmpool_client import BadBatch, Batch, BatchFile, Client
from llmpool_client.batches import check_bodies, examine
from llmpool_client.batches.record import KEEP_S, WINDOW_S

from .progress import Bar

MOST_SHOWN = 20

File = Annotated[
    Path, typer.Argument(metavar="FILE.jsonl", exists=True, dir_okay=False, readable=True, help="One request per line.")
]
Check = Annotated[bool, typer.Option("--check", help="Say what is wrong with the file, and send nothing.")]
Id = Annotated[
    str | None, typer.Option("--id", help="The batch's id. Default: made from the file, so that a repeat is the same.")
]
Name = Annotated[str | None, typer.Option(help="For people. Default: the file's name.")]
Queue = Annotated[str | None, typer.Option("--queue", "-q", help="Default: that of the requests' type.")]
PriorityOption = Annotated[Literal["high", "normal", "low"], typer.Option(help="high, normal or low.")]
DeadlineIn = Annotated[
    float, typer.Option(min=0.001, metavar="SECONDS", help="Requests that haven't run by then expire.")
]
Keep = Annotated[
    float, typer.Option(min=0, metavar="SECONDS", help="Life of the batch's record past that: RESULT_TTL, or more.")
]


def submit(
    file: File,
    check: Check = False,
    batch_id: Id = None,
    name: Name = None,
    queue: Queue = None,
    priority: PriorityOption = "low",
    deadline_in: DeadlineIn = WINDOW_S,
    keep: Keep = KEEP_S,
    output: Output = "text",
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
) -> None:
    """Submit a file of requests and print the batch's id. After an interruption the same command goes on.

    Exit status: 0 submitted, 1 not (all of it), 2 the file is no batch: then nothing was sent.
    """
    if check:
        _check(file)
        return
    latest: list[Batch] = []

    async def question(client: Client) -> tuple[Batch, int]:
        with Bar(f"submitting {file.name}") as bar:

            def progress(batch: Batch) -> None:
                latest[:] = [latest[0] if latest else batch, batch]
                bar.show(batch.submitted, batch.total)

            examined = await asyncio.to_thread(_examine, file)
            batch = await client.batches.submit(
                examined,
                batch_id=batch_id,
                name=name,
                queue=queue,
                priority=priority,
                window_s=deadline_in,
                keep_s=keep,
                progress=progress,
            )
        return batch, await client.batches.refused(batch)

    try:
        batch, refused = ask(redis_url, question)
    except KeyboardInterrupt:
        _interrupted(latest)
    _tell(batch, latest[0], refused, output)


def _tell(batch: Batch, first: Batch, refused: int, output: str) -> None:
    if first.whole:
        note(f"batch {batch.id} was submitted before; this is not a new one")
    elif first.submitted:
        note(f"batch {batch.id}: went on after request {first.submitted}")
    if refused:
        note(f"batch {batch.id}: {refused} of {batch.total} requests can't be run: results --errors FILE says why")
    typer.echo(json.dumps(asdict(batch)) if output == "json" else batch.id)
    if not batch.whole:
        fail(f"batch {batch.id} was cancelled: {batch.submitted} of {batch.total} requests were submitted")


def _interrupted(latest: list[Batch]) -> NoReturn:
    if latest:
        batch = latest[-1]
        note(f"batch {batch.id}: {batch.submitted} of {batch.total} requests are submitted; the same command goes on")
    else:
        note("nothing was submitted")
    raise typer.Exit(INTERRUPTED)


def _check(file: Path) -> None:
    examined = _examine(file)
    refused = 0
    for request, fault in check_bodies(examined):
        refused += 1
        if refused <= MOST_SHOWN:
            note(f"line {request.line}, {request.custom_id}: {fault.reason}")
    if refused > MOST_SHOWN:
        note(f"and {refused - MOST_SHOWN} more")
    typer.echo(f"{examined.total} requests to {examined.endpoint}, {refused} of them can't be run")
    raise typer.Exit(FAILED if refused else 0)


def _examine(file: Path) -> BatchFile:
    try:
        return examine(file)
    except BadBatch as error:
        for fault in error.faults:
            note(f"{error.name}: {fault}")
        fail(f"{error.name} is no batch; nothing was sent", USAGE)
    except OSError as error:
        fail(f"{file}: {error.strerror}", USAGE)
