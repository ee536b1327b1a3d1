"""The command."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from typing import Annotated

import typer

from llmpool_cli.cluster import Kubeconfig, Namespace, absent_cluster, namespace_or_current
from llmpool_cli.session import DEFAULT_REDIS_URL, USAGE, Output, Queues, RedisUrl, fail
from llmpool_cli.terminal import for_stdout

from .frame import Frame
from .gather import Gatherer, Places
from .tables import as_text, to_json

_PIPE_WIDTH = 200


def top(
    namespace: Namespace = None,
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Pools of all namespaces.")] = False,
    queue: Queues = None,
    once: Annotated[bool, typer.Option("--once", help="Print one frame and end.")] = False,
    every: Annotated[float, typer.Option("--every", min=0.2, max=60, help="Seconds between two looks.")] = 1.0,
    output: Output = "text",
    kubeconfig: Kubeconfig = "",
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
) -> None:
    """Watch pools, queues, workers, models and the last decisions. Only reads, never a job's text.

    Pools come from a cluster, where there is one; queues and workers from Redis. What can't be reached is said, and the
    rest is shown. Keys: q quit, p pause, s sort, / filter, tab next table. Exit status of --once: 1 where nothing at
    all could be seen.
    """
    places = places_of(kubeconfig, namespace, redis_url, queue, everywhere=everywhere)
    if once or output == "json":
        _print(look_once(places), output)
    elif not sys.stdout.isatty():
        fail("stdout is no terminal: --once prints one frame", USAGE)
    else:
        asyncio.run(_live(places, every))


def places_of(
    kubeconfig: str, namespace: str | None, redis_url: str, queue: list[str] | None, *, everywhere: bool = False
) -> Places:
    """Where to look, by a command's options."""
    no_cluster = absent_cluster(kubeconfig)
    place = None if everywhere or no_cluster else namespace_or_current(namespace, kubeconfig)
    return Places(None if no_cluster else kubeconfig, no_cluster or "", place, namespace, redis_url, tuple(queue or ()))


def look_once(places: Places) -> Frame:
    """One frame."""
    return asyncio.run(_once(places))


def _open(places: Places) -> Gatherer:
    try:
        return Gatherer(places)
    except ValueError as error:
        fail(f"{error}; give --redis-url, such as {DEFAULT_REDIS_URL}", USAGE)


async def _once(places: Places) -> Frame:
    gatherer = _open(places)
    try:
        return await gatherer.look()
    finally:
        await gatherer.close()


async def _live(places: Places, every: float) -> None:
    from .screen import Top

    gatherer = _open(places)
    try:
        await Top(gatherer, every=every).run_async()
    finally:
        await gatherer.close()


def _print(frame: Frame, output: str) -> None:
    if output == "json":
        typer.echo(json.dumps(to_json(frame)))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPE_WIDTH
        typer.echo(for_stdout(as_text(frame, now=time.time(), width=width)))
    if frame.pools is None and frame.queues is None:
        raise typer.Exit(1)
