"""``llmpool dead list|show|replay|purge``."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from llmpool_client import Client, DeadLetter, NotReplayable, UnknownEntry
from llmpool_contract.keys import DEFAULT_QUEUES

from .session import DEFAULT_REDIS_URL, FAILED, USAGE, Output, Queues, RedisUrl, ask, fail, note
from .terminal import out, table

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Jobs that could not be run, with the reason. ENTRY is the address that `list` shows.",
)

HEADERS = ("QUEUE", "ENTRY", "AT", "CODE", "JOB", "PRIORITY", "ATTEMPTS", "BYTES", "REASON")
_ENTRY = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")

Entries = Annotated[list[str] | None, typer.Argument(metavar="ENTRY...", show_default=False)]
All = Annotated[bool, typer.Option("--all", help="All that are there now.")]


@app.command("list")
def list_(
    queue: Queues = None,
    limit: Annotated[int, typer.Option(min=1, help="Most letters per queue, oldest first.")] = 100,
    output: Output = "text",
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
) -> None:
    """List dead letters, oldest first, without their bodies."""

    async def question(client: Client) -> list[DeadLetter]:
        return [letter for name in _names(queue) for letter in await _first(client, name, limit + 1)]

    found = ask(redis_url, question)
    shown = [letter for name in _names(queue) for letter in [each for each in found if each.queue == name][:limit]]
    if output == "json":
        typer.echo(json.dumps([_facts(letter) for letter in shown]))
    elif shown:
        table(HEADERS, [_row(letter) for letter in shown])
    else:
        note(f"no dead letters in {', '.join(_names(queue))}")
    if len(found) > len(shown):
        note(f"there are more than {limit} in a queue; --limit shows them")


@app.command()
def show(
    entry: Annotated[str, typer.Argument(metavar="ENTRY")],
    body: Annotated[bool, typer.Option("--body", help="Print the job as it was sent, and nothing else.")] = False,
    queue: Queues = None,
    output: Output = "text",
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
) -> None:
    """Print one dead letter's reason and circumstances; its body, which holds a prompt, only with --body."""
    letter = ask(redis_url, lambda client: _find(client, entry, queue))
    if body and sys.stdout.isatty():
        out(letter.body.decode("utf-8", "replace"))
    elif body:
        sys.stdout.buffer.write(letter.body)
    elif output == "json":
        typer.echo(json.dumps(_facts(letter)))
    else:
        for name, value in _facts(letter).items():
            out(f"{name + ':':12} {value}")
    if letter.truncated:
        note(f"only {len(letter.body)} of {letter.size} bytes were kept; this job can't be replayed")


@app.command()
def replay(
    entries: Entries = None, all_: All = False, queue: Queues = None, redis_url: RedisUrl = DEFAULT_REDIS_URL
) -> None:
    """Put jobs back into their list, as they were sent, and forget their failed results."""
    _check_choice(entries, all_)

    async def question(client: Client) -> tuple[int, int]:
        done = failed = 0
        for name in _names(queue) if all_ else ():
            letters = client.dead_letters(name)
            newest = await letters.newest()
            async for letter in letters.walk(newest or "0"):
                went = await _replay(client, letter)
                done, failed = done + went, failed + (not went)
        for entry in entries or ():
            went = await _replay(client, await _find(client, entry, queue))
            done, failed = done + went, failed + (not went)
        return done, failed

    done, failed = ask(redis_url, question)
    typer.echo(f"replayed {done}" + (f", {failed} could not be" if failed else ""))
    raise typer.Exit(FAILED if failed else 0)


@app.command()
def purge(
    entries: Entries = None,
    all_: All = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    queue: Queues = None,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
) -> None:
    """Remove dead letters for good. Their jobs' failed results stay until they lapse."""
    _check_choice(entries, all_)
    if not yes:
        what = f"all dead letters of {', '.join(_names(queue))}" if all_ else f"{len(entries or ())} dead letters"
        typer.confirm(f"Remove {what} for good?", abort=True)

    async def question(client: Client) -> int:
        if all_:
            return sum([await client.dead_letters(name).purge_all() for name in _names(queue)])
        letters = [await _find(client, entry, queue) for entry in entries or ()]
        return sum([await client.dead_letters(letter.queue).purge(letter.entry) for letter in letters])

    typer.echo(f"removed {ask(redis_url, question)}")


def _names(queue: list[str] | None) -> list[str]:
    return queue or list(DEFAULT_QUEUES)


def _check_choice(entries: list[str] | None, all_: bool) -> None:
    if bool(entries) == all_:
        fail("name entries (see `llmpool dead list`), or --all", USAGE)


async def _first(client: Client, queue: str, count: int) -> list[DeadLetter]:
    found: list[DeadLetter] = []
    async for letter in client.dead_letters(queue).walk():
        found.append(letter)
        if len(found) == count:
            break
    return found


async def _find(client: Client, entry: str, queue: list[str] | None) -> DeadLetter:
    if not _ENTRY.fullmatch(entry):
        fail(f"entry: got {entry!r}, wanted an address such as 1760000000000-0 (see `llmpool dead list`)", USAGE)
    found = [letter for name in _names(queue) if (letter := await client.dead_letters(name).get(entry))]
    if not found:
        raise UnknownEntry(f"no dead letter {entry} in {', '.join(_names(queue))}")
    if len(found) > 1:
        fail(f"dead letter {entry} is in {', '.join(letter.queue for letter in found)}: say which --queue", USAGE)
    return found[0]


async def _replay(client: Client, letter: DeadLetter) -> bool:
    try:
        await client.dead_letters(letter.queue).replay(letter)
    except (NotReplayable, UnknownEntry) as error:
        note(str(error))
        return False
    return True


def _facts(letter: DeadLetter) -> dict[str, Any]:
    """Everything but the body."""
    facts = asdict(letter)
    del facts["body"]
    return facts | {"kept": len(letter.body), "at": _time(letter)}


def _row(letter: DeadLetter) -> tuple[str | int, ...]:
    job = letter.job_id or "-"
    about = (letter.queue, letter.entry, _time(letter), letter.code, job, letter.priority)
    return (*about, letter.attempts, letter.size, letter.reason)


def _time(letter: DeadLetter) -> str:
    return datetime.fromtimestamp(letter.at_ms / 1_000, UTC).isoformat(timespec="seconds")
