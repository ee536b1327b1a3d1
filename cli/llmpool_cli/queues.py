"""``llmpool queues``."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from llmpool_contract.keys import DEFAULT_QUEUES

from .session import DEFAULT_REDIS_URL, Output, Queues, RedisUrl, ask
from .terminal import duration, table

HEADERS = ("QUEUE", "HIGH", "NORMAL", "LOW", "DUE", "DELAYED", "IN FLIGHT", "DEAD", "OLDEST")


def queues(queue: Queues = None, output: Output = "text", redis_url: RedisUrl = DEFAULT_REDIS_URL) -> None:
    """Count what is in the queues: ready by priority, delayed (due or not yet), in flight, dead.

    OLDEST is the age of the oldest job at a list's head, by its producer's clock, where it says.
    """
    found = ask(redis_url, lambda client: client.queues(queue or list(DEFAULT_QUEUES)))
    if output == "json":
        typer.echo(json.dumps([asdict(state) for state in found]))
        return
    rows = [
        (q.queue, q.high, q.normal, q.low, q.due, q.delayed, q.in_flight, q.dead, duration(q.oldest_s)) for q in found
    ]
    table(HEADERS, rows)
