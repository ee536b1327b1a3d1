"""``llmpool demo``: the whole pool at work on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from llmpool_cli.session import FAILED, USAGE, fail, note
from llmpool_cli.terminal import table

from .burst import LEAST_JOBS, MOST_JOBS
from .child import ProviderError
from .model_provider import LOCAL_OLLAMA, ModelChoice
from .performance import Outcome, Wishes, perform
from .pool import CONCURRENCY, MOST_WORKERS
from .redis_provider import RedisWish
from .signals import Signals
from .summary import rows

INTRODUCTION = """\
The LLM Worker Pool at work: {jobs} chat jobs go into a Redis list, worker processes
take them to a model, and the operator's own code sizes the pool by the backlog:
from no worker to {most} at most, and back to none. All of it on this machine: a few
processes, loopback ports, a temporary folder, gone at the end. Ctrl-C ends it.
"""


def demo(
    redis_url: Annotated[
        str | None, typer.Option(envvar="REDIS_URL", help="A Redis to use. Default: a private one for the demo.")
    ] = None,
    backend: Annotated[
        Literal["auto", "echo"],
        typer.Option(help="auto: OLLAMA_BASE_URL, a local Ollama, else llama.cpp with a small model. echo: no model."),
    ] = "auto",
    model: Annotated[str | None, typer.Option(help="The model's name. Default: a small one that is there.")] = None,
    gguf: Annotated[Path | None, typer.Option(help="A file of weights for llama.cpp, in place of a server.")] = None,
    jobs: Annotated[int, typer.Option(min=LEAST_JOBS, max=MOST_JOBS, help="Jobs to submit.")] = 24,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds after which it gives up.")] = 600,
    plain: Annotated[bool, typer.Option("--plain", help="Lines in place of the live display.")] = False,
    json: Annotated[bool, typer.Option("--json", help="A JSON object as the last line.")] = False,
    redis: Annotated[RedisWish, typer.Option(hidden=True, envvar="LLMPOOL_DEMO_REDIS")] = "auto",
    local_ollama: Annotated[str, typer.Option(hidden=True, envvar="LLMPOOL_DEMO_OLLAMA")] = LOCAL_OLLAMA,
) -> None:
    """Show the whole pool at work on this machine, with a real model: a burst of jobs, from zero workers and back.

    Exit status: 0 if no job was lost, each ended as it should, and the pool grew above one and ended at zero, else 1;
    2 if it could not begin.
    """
    choice = ModelChoice(backend, model, gguf, slots=MOST_WORKERS * CONCURRENCY)
    wishes = Wishes(redis, redis_url, choice, local_ollama, jobs, timeout, plain or not sys.stdout.isatty())
    typer.echo(INTRODUCTION.format(jobs=jobs, most=MOST_WORKERS))
    with Signals() as signals:
        try:
            outcome = perform(wishes, signals)
        except ProviderError as error:
            fail(str(error), USAGE)
    if signals.exit_status is not None:
        note("stopped early; all that was started has ended")
        raise typer.Exit(signals.exit_status)
    conclude(outcome, json=json)


def conclude(outcome: Outcome, *, json: bool) -> None:
    """Print the summary; say why it did not go well where it didn't."""
    typer.echo()
    table(("summary", ""), rows(outcome.summary))
    if outcome.why is not None:
        for line in outcome.last_words:
            note(f"a worker wrote: {line}")
        note(outcome.why)
    if json:
        typer.echo(outcome.summary.to_json())
    if outcome.why is not None:
        raise typer.Exit(FAILED)
