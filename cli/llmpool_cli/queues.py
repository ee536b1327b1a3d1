"""``llmpool queues``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from llmpool_client import Client, QueueState
from llmpool_contract.keys import DEFAULT_QUEUES

from .session import DEFAULT_REDIS_URL, USAGE, Output, Queues, RedisUrl, ask, fail
from .terminal import duration, table

HEADERS = ("QUEUE", "HIGH", "NORMAL", "LOW", "DUE", "DELAYED", "LIMIT", "IN FLIGHT", "DEAD", "OLDEST")

Limit = Annotated[
    int | None, typer.Option("--limit", min=0, metavar="N", help="Let at most N jobs wait in the named queues.")
]
NoLimit = Annotated[bool, typer.Option("--no-limit", help="Lift the limit of the named queues.")]


def queues(
    queue: Queues = None,
    limit: Limit = None,
    no_limit: NoLimit = False,
    output: Output = "text",
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
) -> None:
    """Count what is in the queues: ready by priority, delayed (due or not yet), in flight, dead.

    OLDEST is the age of the oldest job at a list's head, by its producer's clock, where it says. --limit sets how many
    jobs may wait (ready and delayed): submits that would pass it are refused, until --no-limit.
    """
    changes = no_limit or limit is not None
    if changes and (not queue or (no_limit and limit is not None)):
        fail("--limit N or --no-limit, one of them, is for queues that are named: --queue NAME", USAGE)

    async def question(client: Client) -> list[QueueState]:
        for name in queue or () if changes else ():
            await client.limit_queue(name, limit)
        return await client.queues(queue or list(DEFAULT_QUEUES))

    found = ask(redis_url, question)
    if output == "json":
        typer.echo(json.dumps([asdict(state) for state in found]))
    else:
        table(HEADERS, [_row(state) for state in found])


def _row(state: QueueState) -> tuple[str | int, ...]:
    ready = (state.queue, state.high, state.normal, state.low)
    limit = "-" if state.max_queued is None else state.max_queued
    return (*ready, state.due, state.delayed, limit, state.in_flight, state.dead, duration(state.oldest_s))
