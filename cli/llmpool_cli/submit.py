"""``llmpool submit chat|generate|embed``."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import typer

from llmpool_client import Priority

from .answer import Screen, finish, follow
from .session import DEFAULT_REDIS_URL, USAGE, OneQueue, Output, RedisUrl, Timeout, fail, note, sync_client
from .submit_terms import Durable, MaxQueued, Replicas, Terms

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="Submit a job and print its answer."
)

Model = Annotated[str, typer.Option("--model", "-m", help="The model's name, such as gemma3:270m.")]
Prompt = Annotated[str, typer.Argument(metavar="TEXT", help="Read from stdin where absent or '-'.", show_default=False)]
Inputs = Annotated[list[str] | None, typer.Argument(metavar="TEXT...", help="Texts; '-' or none: stdin is one text.")]
System = Annotated[str | None, typer.Option(help="The system's text.")]
Sampling = Annotated[
    list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="Such as temperature=0; may be repeated.")
]
NumPredict = Annotated[int | None, typer.Option(min=1, help="Most tokens of the answer.")]
Stream = Annotated[
    bool | None, typer.Option("--stream/--no-stream", help="Print text as it comes. Default: on a terminal.")
]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="--no-wait prints the job's id and leaves.")]
Id = Annotated[str | None, typer.Option("--id", help="The job's id; a repeat with the same id runs nothing twice.")]
PriorityOption = Annotated[Literal["high", "normal", "low"], typer.Option(help="high, normal or low.")]
DeadlineIn = Annotated[
    float | None, typer.Option(min=0, metavar="SECONDS", help="The answer is of no use after so long, by Redis' clock.")
]


@dataclass(frozen=True, slots=True)
class _How:
    """What all three commands take beside the job."""

    redis_url: str
    queue: str | None
    priority: Priority
    wait: bool
    timeout: float | None
    deadline_in: float | None
    terms: Terms
    output: Literal["text", "json"]
    stream: bool = False


@app.command()
def chat(
    model: Model,
    text: Prompt = "-",
    system: System = None,
    option: Sampling = None,
    num_predict: NumPredict = None,
    stream: Stream = None,
    wait: Wait = True,
    timeout: Timeout = None,
    deadline_in: DeadlineIn = None,
    job_id: Id = None,
    priority: PriorityOption = "normal",
    max_queued: MaxQueued = None,
    durable: Durable = False,
    replicas: Replicas = 0,
    queue: OneQueue = None,
    output: Output = "text",
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
) -> None:
    """Ask a model and print its answer as it comes."""
    messages = [{"role": "system", "content": system}] if system is not None else []
    messages.append({"role": "user", "content": _text(text)})
    job = {"type": "chat", "model": model, "messages": messages, "id": job_id, "options": _options(option, num_predict)}
    terms = Terms(max_queued, durable, replicas)
    how = _How(redis_url, queue, priority, wait, timeout, deadline_in, terms, output, _streams(stream, wait, output))
    _send(job, how)


@app.command()
def generate(
    model: Model,
    text: Prompt = "-",
    system: System = None,
    option: Sampling = None,
    num_predict: NumPredict = None,
    stream: Stream = None,
    wait: Wait = True,
    timeout: Timeout = None,
    deadline_in: DeadlineIn = None,
    job_id: Id = None,
    priority: PriorityOption = "normal",
    max_queued: MaxQueued = None,
    durable: Durable = False,
    replicas: Replicas = 0,
    queue: OneQueue = None,
    output: Output = "text",
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
) -> None:
    """Have a model go on from a text."""
    job: dict[str, Any] = {"type": "generate", "model": model, "prompt": _text(text), "system": system, "id": job_id}
    job["options"] = _options(option, num_predict)
    terms = Terms(max_queued, durable, replicas)
    how = _How(redis_url, queue, priority, wait, timeout, deadline_in, terms, output, _streams(stream, wait, output))
    _send(job, how)


@app.command()
def embed(
    model: Model,
    texts: Inputs = None,
    wait: Wait = True,
    timeout: Timeout = None,
    deadline_in: DeadlineIn = None,
    job_id: Id = None,
    priority: PriorityOption = "normal",
    max_queued: MaxQueued = None,
    durable: Durable = False,
    replicas: Replicas = 0,
    queue: OneQueue = None,
    output: Output = "text",
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
) -> None:
    """Embed texts; one line of JSON per text."""
    given = [_text("-")] if not texts or texts == ["-"] else texts
    job = {"type": "embed", "model": model, "input": given, "id": job_id}
    terms = Terms(max_queued, durable, replicas)
    _send(job, _How(redis_url, queue, priority, wait, timeout, deadline_in, terms, output))


def _send(job: dict[str, Any], how: _How) -> None:
    with sync_client(how.redis_url) as client:
        if how.deadline_in is not None:
            job["deadline"] = client.now_ms() + int(how.deadline_in * 1_000)
        ref = client.submit(
            job,
            queue=how.queue,
            priority=how.priority,
            max_queued=how.terms.max_queued,
            durable=how.terms.durability(),
            stream=how.stream or None,
        )
        if ref.duplicate:
            note(f"job {ref.id} was submitted before; this is not a new one")
        if not how.wait:
            shown = {"id": ref.id, "queue": ref.queue, "duplicate": ref.duplicate}
            typer.echo(json.dumps(shown) if how.output == "json" else ref.id)
            return
        screen = Screen() if how.stream else None
        result = follow(client, ref, screen, how.timeout)
    raise typer.Exit(finish(result, screen, how.output))


def _streams(wanted: bool | None, wait: bool, output: str) -> bool:
    """A pipe gets the answer whole: what an attempt printed can't be taken back from there."""
    return wait and output == "text" and (sys.stdout.isatty() if wanted is None else wanted)


def _text(given: str) -> str:
    if given != "-":
        return given
    if sys.stdin.isatty():
        note("reading the text from the terminal; Ctrl-D ends it")
    try:
        return sys.stdin.read()
    except UnicodeDecodeError:
        fail("stdin is not UTF-8 text", USAGE)


def _options(pairs: list[str] | None, num_predict: int | None) -> dict[str, Any] | None:
    """``NAME=VALUE`` pairs; a value is JSON where it reads as such. What exists, the contract says."""
    found: dict[str, Any] = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals or not name or name in found:
            fail(f"--option {pair}: wanted NAME=VALUE, each name once", USAGE)
        found[name] = _json_or_text(value)
    if num_predict is not None:
        found["num_predict"] = num_predict
    return found or None


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value
