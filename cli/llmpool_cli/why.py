"""``llmpool why``: a job's facts as sentences."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from pydantic import TypeAdapter

from llmpool_client import Client, JobFacts
from llmpool_contract import env

from .jobs import JobId
from .session import DEFAULT_REDIS_URL, FAILED, OneQueue, Output, RedisUrl, ask
from .terminal import out
from .why_sentences import sentences

Pool = Annotated[
    str, typer.Option("--pool", "-p", envvar=env.WORKER_POOL, show_envvar=True, help="Whose workers are asked.")
]


def why(
    job_id: JobId,
    queue: OneQueue = None,
    pool: Pool = str(env.DEFAULTS[env.WORKER_POOL]),
    output: Output = "text",
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
) -> None:
    """Say where a job is, what it waits for, and what its last error was. Nothing is changed.

    A job that no client of this project pushed is looked for among the first 10,000 of each queue. Exit status 1 where
    there is no trace of it.
    """

    async def question(client: Client) -> JobFacts:
        return await client.why(job_id, queue=queue, pool=pool)

    facts = ask(redis_url, question)
    said = sentences(facts)
    if output == "json":
        plain: dict[str, Any] = TypeAdapter(JobFacts).dump_python(facts, mode="json")
        typer.echo(TypeAdapter(dict[str, Any]).dump_json(plain | {"sentences": said}).decode())
    else:
        for sentence in said:
            out(sentence)
    raise typer.Exit(0 if facts.known else FAILED)
