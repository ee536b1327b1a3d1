"""``llmpool batch results``: OpenAI's result and error files."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Annotated

import typer

from llmpool_cli.session import DEFAULT_REDIS_URL, FAILED, OneQueue, RedisUrl, ask, fail, note
from llmpool_cli.terminal import for_stdout
from llmpool_client import Batch, Client, RequestState
from llmpool_client.batches import line_of

from .watch import BatchId

Results = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", dir_okay=False, help="Default: standard output.")
]
Errors = Annotated[
    Path | None,
    typer.Option(
        "--errors", metavar="FILE", dir_okay=False, help="The requests that did not succeed. Default: nowhere."
    ),
]


def results(
    batch_id: BatchId,
    output: Results = None,
    errors: Errors = None,
    queue: OneQueue = None,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
) -> None:
    """Write what a batch's requests came to, one line each, in the file's order.

    A file appears when it is whole. Exit status: 0 every request succeeded, 1 not all did, or not all have ended.
    """

    async def question(client: Client) -> tuple[Batch, Counter[RequestState]]:
        batch = await client.batches.get(batch_id, queue=queue)
        with ExitStack() as files:
            good = files.enter_context(_opened(output)) if output is not None else None
            bad = files.enter_context(_opened(errors)) if errors is not None else None
            return batch, await _write(client, batch, good, bad)

    try:
        batch, seen = ask(redis_url, question)
    except OSError as error:
        fail(f"{error.filename or 'standard output'}: {error.strerror}")
    _tell(batch, seen, errors)
    raise typer.Exit(0 if seen[RequestState.SUCCEEDED] == batch.total else FAILED)


async def _write(client: Client, batch: Batch, good: IO[str] | None, bad: IO[str] | None) -> Counter[RequestState]:
    seen: Counter[RequestState] = Counter()
    async for outcome in client.batches.outcomes(batch):
        seen[outcome.state] += 1
        line = line_of(batch, outcome)
        if line is None:
            continue
        text = json.dumps(line, ensure_ascii=False) + "\n"
        if outcome.result is None:
            if bad is not None:
                bad.write(text)
        elif good is not None:
            good.write(text)
        else:
            sys.stdout.write(for_stdout(text))
    return seen


def _tell(batch: Batch, seen: Counter[RequestState], errors: Path | None) -> None:
    open_ = sum(count for state, count in seen.items() if not state.is_end)
    others = {str(state): count for state, count in seen.items() if state.is_end}
    others.pop(RequestState.SUCCEEDED, None)
    if others:
        counted = ", ".join(f"{count} {state}" for state, count in sorted(others.items()))
        where = "" if errors is not None else "; --errors FILE says why"
        note(f"batch {batch.id}: of {batch.total} requests, {counted}{where}")
    if seen[RequestState.LOST]:
        note(f"batch {batch.id}: lost means: result expired, and whether the request succeeded isn't known any more")
    if open_:
        note(f"batch {batch.id}: {open_} of {batch.total} requests have not ended: llmpool batch wait {batch.id}")
    if never := batch.total - seen.total():
        note(f"batch {batch.id}: {never} of {batch.total} requests were never submitted")


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    """A file that takes its place when it is whole; what is no plain file, such as a pipe, is written directly."""
    if path.exists() and not path.is_file():
        with path.open("w", encoding="utf-8") as opened:
            yield opened
        return
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("w", encoding="utf-8") as opened:
            yield opened
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
