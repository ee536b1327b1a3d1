"""``llmpool result|status|cancel``: a job by its id."""

from __future__ import annotations

from typing import Annotated

import typer

from llmpool_client import Client, JobStatus, ResultTimeout

from .answer import finish
from .session import DEFAULT_REDIS_URL, FAILED, OneQueue, Output, RedisUrl, Timeout, ask, fail

JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]


def result(
    job_id: JobId,
    queue: OneQueue = None,
    timeout: Timeout = None,
    output: Output = "text",
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
) -> None:
    """Print a job's result; wait for it where need be (--timeout 0: don't).

    Exit status: 0 succeeded, 1 any other end or no result in time, 2 wrong usage.
    """

    async def question(client: Client) -> int:
        try:
            return finish(await client.result(job_id, queue=queue, timeout=timeout), None, output)
        except ResultTimeout:
            stands = await client.status(job_id, queue=queue)
            fail(f"job {job_id}: no result within {timeout:g} s; it is {stands}")

    raise typer.Exit(ask(redis_url, question))


def status(job_id: JobId, queue: OneQueue = None, redis_url: RedisUrl = DEFAULT_REDIS_URL) -> None:
    """Print queued, running, waiting (to retry), succeeded, failed, cancelled, expired or unknown (exit status 1)."""
    stands = ask(redis_url, lambda client: client.status(job_id, queue=queue))
    typer.echo(stands)
    raise typer.Exit(FAILED if stands is JobStatus.UNKNOWN else 0)


def cancel(job_id: JobId, queue: OneQueue = None, redis_url: RedisUrl = DEFAULT_REDIS_URL) -> None:
    """Cancel a job, queued or running. Exit status 1 where it had ended already."""
    stood = ask(redis_url, lambda client: client.cancel(job_id, queue=queue))
    if stood.is_end:
        fail(f"job {job_id} had ended already: {stood}")
    typer.echo(f"job {job_id} was {stood}; it will be cancelled")
