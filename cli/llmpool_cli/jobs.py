"""``llmpool result|status|cancel``: a job by its id."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from llmpool_client import Client, JobStatus, ResultTimeout

from .answer import finish
from .lines import Kubeconfig, Namespace
from .session import DEFAULT_REDIS_URL, FAILED, OneQueue, Output, RedisUrl, Timeout, ask, fail, note

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
        if queue is not None and timeout != 0 and await client.status(job_id, queue=queue) is JobStatus.UNKNOWN:
            note(f"job {job_id}: nothing is known of it yet, or any more; waiting. llmpool why {job_id} looks further")
        try:
            return finish(await client.result(job_id, queue=queue, timeout=timeout), None, output)
        except ResultTimeout:
            stands = await client.status(job_id, queue=queue)
            fail(f"job {job_id}: no result within {timeout:g} s; it is {stands}")

    raise typer.Exit(ask(redis_url, question))


def status(
    job_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="A job's id.", show_default=False)] = None,
    queue: OneQueue = None,
    namespace: Namespace = None,
    output: Output = "text",
    kubeconfig: Kubeconfig = "",
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
) -> None:
    """Say whether all is well (exit status 1: something isn't), or with an ID where that job stands.

    Looks at Redis, at queues and workers there, and at the pools of a cluster where there is one. A job is queued,
    running, waiting (to retry), succeeded, failed, cancelled, expired or unknown (exit status 1).
    """
    if job_id is None:
        from .health import show
        from .top.main import look_once, places_of

        wanted = None if queue is None else [queue]
        places = places_of(kubeconfig, namespace, redis_url, wanted, everywhere=namespace is None)
        return show(look_once(places), output)
    stands = ask(redis_url, lambda client: client.status(job_id, queue=queue))
    typer.echo(json.dumps({"id": job_id, "status": stands}) if output == "json" else stands)
    raise typer.Exit(FAILED if stands is JobStatus.UNKNOWN else 0)


def cancel(job_id: JobId, queue: OneQueue = None, redis_url: RedisUrl = DEFAULT_REDIS_URL) -> None:
    """Cancel a job, queued or running. Exit status 1 where it had ended already."""
    stood = ask(redis_url, lambda client: client.cancel(job_id, queue=queue))
    if stood.is_end:
        fail(f"job {job_id} had ended already: {stood}")
    typer.echo(f"job {job_id} was {stood}; it will be cancelled")
