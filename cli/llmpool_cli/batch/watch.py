"""``llmpool batch status|wait|cancel|list``."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from llmpool_cli.answer import INTERRUPTED
from llmpool_cli.session import DEFAULT_REDIS_URL, FAILED, OneQueue, Output, Queues, RedisUrl, ask, fail, note
from llmpool_cli.terminal import out, table
from llmpool_client import Batch, BatchStatus, Client
from llmpool_contract.keys import DEFAULT_QUEUES

from .progress import Bar

HEADERS = ("ID", "NAME", "QUEUE", "ENDPOINT", "CREATED", "SUBMITTED", "TOTAL")

BatchId = Annotated[str, typer.Argument(metavar="ID", help="The batch's id.")]
Patience = Annotated[float | None, typer.Option(min=0, help="Seconds to wait; the batch goes on. Default: no limit.")]


def status(
    batch_id: BatchId, queue: OneQueue = None, output: Output = "text", redis_url: RedisUrl = DEFAULT_REDIS_URL
) -> None:
    """Count a batch's requests by how they stand."""
    found = ask(redis_url, lambda client: client.batches.status(batch_id, queue=queue))
    _show(found, output)


def wait(
    batch_id: BatchId,
    queue: OneQueue = None,
    timeout: Patience = None,
    output: Output = "text",
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
) -> None:
    """Wait until every request has ended, then count them.

    Exit status: 0 every request succeeded, 1 any other end or none in time.
    """

    async def question(client: Client) -> BatchStatus:
        with Bar(batch_id) as bar:

            def progress(now: BatchStatus) -> None:
                bar.show(now.counts.total - now.counts.open, now.counts.total, told(now))

            return await client.batches.wait(batch_id, queue=queue, timeout=timeout, progress=progress)

    try:
        found = ask(redis_url, question)
    except KeyboardInterrupt:
        note(f"batch {batch_id} goes on: llmpool batch wait|cancel {batch_id}")
        raise typer.Exit(INTERRUPTED) from None
    _show(found, output)
    raise typer.Exit(0 if found.succeeded else FAILED)


def cancel(batch_id: BatchId, queue: OneQueue = None, redis_url: RedisUrl = DEFAULT_REDIS_URL) -> None:
    """Cancel all of a batch that hasn't ended. Exit status 1 where there was nothing left to cancel."""

    async def question(client: Client) -> tuple[Batch, int, bool]:
        batch = await client.batches.get(batch_id, queue=queue)
        return batch, await client.batches.cancel(batch), batch.whole

    batch, reached, whole = ask(redis_url, question)
    if not reached and whole:
        fail(f"batch {batch.id}: every request had ended already")
    typer.echo(f"batch {batch.id}: {reached} jobs will be cancelled")


def list_(queue: Queues = None, output: Output = "text", redis_url: RedisUrl = DEFAULT_REDIS_URL) -> None:
    """List the batches that are remembered, oldest first."""
    names = queue or list(DEFAULT_QUEUES)
    found = ask(redis_url, lambda client: client.batches.list_all(names))
    if output == "json":
        typer.echo(json.dumps([asdict(batch) for batch in found]))
    elif found:
        table(HEADERS, [_row(batch) for batch in found])
    else:
        note(f"no batches in {', '.join(names)}")


def told(status: BatchStatus) -> str:
    """What is other than zero, such as ``completed 5, failed 1``."""
    counts = {name: count for name, count in asdict(status.counts).items() if count and name != "total"}
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _show(status: BatchStatus, output: str) -> None:
    if output == "json":
        typer.echo(json.dumps(status.facts()))
        return
    batch = status.batch
    shown = {"id": batch.id, "name": batch.name, "queue": batch.queue, "endpoint": batch.endpoint}
    shown |= {"state": str(status.state)}
    shown |= {"created": _time(batch.created_ms), "deadline": _time(batch.deadline_ms)}
    shown |= {"forgotten": _time(batch.expires_ms)}
    for name, value in [*shown.items(), *asdict(status.counts).items()]:
        out(f"{name + ':':12} {value}")
    if status.counts.lost:
        note(f"{status.counts.lost} results have expired: whether those requests succeeded isn't known any more")


def _row(batch: Batch) -> tuple[str | int, ...]:
    about = (batch.id, batch.name, batch.queue, batch.endpoint, _time(batch.created_ms))
    return (*about, batch.submitted, batch.total)


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat(timespec="seconds")
