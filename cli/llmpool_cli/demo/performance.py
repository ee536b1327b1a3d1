"""One performance of the demo: find Redis and a model, play, sum up."""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import typer
from redis.exceptions import RedisError

from llmpool_cli.terminal import printable
from llmpool_client import ClientError

from .burst import compose
from .display import LiveScreen
from .model_provider import ModelChoice, ModelEnd, open_model
from .plain import PlainScreen
from .pool import TERMS, demo_pool, workers_environment
from .redis_provider import RedisEnd, RedisWish, open_redis
from .scene import GaveUp, Scene, Screen
from .signals import Signals
from .stage import play
from .story import Story
from .summary import Summary, failure, summarize

LAST_WORDS = 5


@dataclass(frozen=True, slots=True)
class Wishes:
    """The command line."""

    redis: RedisWish
    redis_url: str | None
    model: ModelChoice
    local_ollama: str
    jobs: int
    timeout_s: float
    plain: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went."""

    summary: Summary
    why: str | None
    """Why it did not go well. None: it did."""
    last_words: tuple[str, ...]
    """What the workers wrote at last."""


def perform(wishes: Wishes, signals: Signals) -> Outcome:
    """Everything that is opened here is closed again, however it ends.

    Raises:
        ProviderError: there is no Redis or no model.
    """
    given = {} if wishes.redis_url is None else {"REDIS_URL": wishes.redis_url}
    environment = {**os.environ, **given}
    with (
        open_redis(environment, wishes.redis) as redis,
        open_model(wishes.model, environment, typer.echo, local=wishes.local_ollama) as model,
        tempfile.TemporaryFile() as log,
    ):
        name = f"demo-{secrets.token_hex(3)}"
        story = Story(compose(f"llm-chat-{name}", model.model, wishes.jobs))
        _introduce(redis, model, story)
        scene = Scene(
            pool=demo_pool(name, story.burst.queue, model.backend),
            redis_url=redis.url,
            model_url=model.base_url,
            environment=workers_environment(os.environ),
            workers_log=log.fileno(),
            timeout_s=wishes.timeout_s,
        )
        with _screen(wishes, model) as screen:
            trouble = _play(scene, story, screen, signals)
        summary = summarize(story, redis.kind, model.kind)
        why = trouble or failure(summary, timed_out_s=wishes.timeout_s if story.timed_out else None)
        return Outcome(summary, why, _last_words(log))


def _introduce(redis: RedisEnd, model: ModelEnd, story: Story) -> None:
    typer.echo(f"Redis: {redis.kind}")
    typer.echo(f"       queue {story.burst.queue}, removed at the end")
    typer.echo(f"Model: {model.kind}")
    typer.echo(f"Pool:  {TERMS}\n")


@contextmanager
def _screen(wishes: Wishes, model: ModelEnd) -> Iterator[Screen]:
    if wishes.plain:
        yield PlainScreen()
        return
    with LiveScreen(f"LLM Worker Pool: {model.model}") as live:
        yield live


def _play(scene: Scene, story: Story, screen: Screen, signals: Signals) -> str | None:
    """Play to the end; what went wrong on the way, in one line."""
    try:
        asyncio.run(play(scene, story, screen, signals))
    except (GaveUp, ClientError) as error:
        return str(error)
    except RedisError as error:  # of our own bare push; its text may quote what was sent
        return f"Redis failed: {type(error).__name__}"
    return None


def _last_words(log: IO[bytes]) -> tuple[str, ...]:
    log.seek(0)
    lines = log.read().decode("utf-8", "replace").splitlines()
    return tuple(printable(line) for line in lines[-LAST_WORDS:])
