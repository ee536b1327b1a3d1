"""What the commands that talk to Redis share: its options, a client, and errors as one line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import typer

from llmpool_client import BadJob, BadName, Client, ClientError, SyncClient
from llmpool_contract import env
from llmpool_contract.keys import DEFAULT_QUEUES

from .lines import FAILED as FAILED
from .lines import USAGE as USAGE
from .lines import Output as Output
from .lines import fail as fail
from .lines import note as note

T = TypeVar("T")

DEFAULT_REDIS_URL = "redis://localhost:6379/0"

RedisUrl = Annotated[
    str, typer.Option("--redis-url", envvar=env.REDIS_URL, show_envvar=True, help="redis://, rediss:// or unix://")
]
OneQueue = Annotated[
    str | None, typer.Option("--queue", "-q", help="The job's queue; needed where it isn't a default one.")
]
Queues = Annotated[
    list[str] | None, typer.Option("--queue", "-q", help=f"May be repeated. Default: {', '.join(DEFAULT_QUEUES)}.")
]
Timeout = Annotated[
    float | None, typer.Option(min=0, help="Seconds to wait for the result; the job goes on. Default: no limit.")
]


@contextmanager
def errors_as_lines() -> Iterator[None]:
    """What can be expected to go wrong becomes a line and an exit status: 2 for wrong input, else 1."""
    try:
        yield
    except (BadJob, BadName) as error:
        fail(str(error), USAGE)
    except ClientError as error:
        fail(str(error))


def ask(redis_url: str, question: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    """Run one question against a client that is opened for it."""
    client = _open(Client, redis_url)

    async def answer() -> T:
        async with client:
            return await question(client)

    with errors_as_lines():
        return asyncio.run(answer())


@contextmanager
def sync_client(redis_url: str) -> Iterator[SyncClient]:
    """A client whose calls Ctrl-C interrupts."""
    with errors_as_lines(), _open(SyncClient, redis_url) as client:
        yield client


def _open(kind: Callable[[str], T], redis_url: str) -> T:
    try:
        return kind(redis_url)
    except ValueError as error:
        fail(f"{error}; give --redis-url or {env.REDIS_URL}, such as {DEFAULT_REDIS_URL}", USAGE)
