"""``llmpool explain``: why a pool has the size it has, from its object alone."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from llmpool_contract.labels import KIND
from llmpool_operator.decide.types import Missing
from llmpool_operator.explain import Explanation, Leader, lines
from llmpool_operator.explain import explain as explained
from llmpool_operator.kube import KubeAPI, Object

from .cluster import Kubeconfig, Namespace, ask, namespace_or_current, read_pool
from .lease import DEFAULT_LEASE, find_leader
from .pool_file import read_file
from .session import FAILED, USAGE, Output, fail
from .terminal import printable

_COLOURS: dict[str, dict[str, Any]] = {
    "title": {"bold": True},
    "good": {"fg": "green"},
    "bad": {"fg": "red"},
    "dim": {"dim": True},
}


def explain(
    pool: Annotated[str | None, typer.Argument(metavar="POOL", help="The pool's name.", show_default=False)] = None,
    namespace: Namespace = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "-f",
            "--file",
            help="A pool as `kubectl get -o yaml` prints it (-: on stdin), not a cluster's.",
            dir_okay=False,
        ),
    ] = None,
    output: Output = "text",
    kubeconfig: Kubeconfig = "",
    lease: Annotated[str, typer.Option(help="The operators' Lease (their LEADER_LEASE).")] = DEFAULT_LEASE,
) -> None:
    """Say why a pool has its size: what each metric asks for, what limits it, and what the operator waits for.

    Nothing is changed, and no Redis is asked: all of it is in the pool's status. Exit status 1 where there is no such
    pool, no CRD, or no access, and where the spec of a file can't be used.
    """
    if file is not None:
        obj, leader = read_file(file, pool, namespace), None
    elif pool is None:
        fail(f"which {KIND}? llmpool explain POOL, or -f FILE", USAGE)
    else:
        obj, leader = _from_cluster(pool, namespace_or_current(namespace, kubeconfig), kubeconfig, lease)
    page = explained(obj, now=time.time(), leader=leader)
    if output == "json":
        typer.echo(json.dumps(page.to_json(), ensure_ascii=False, indent=2))
    else:
        _print(page)
    if file is not None and any(problem.reason == "InvalidSpec" for problem in page.problems):
        raise typer.Exit(FAILED)


def _from_cluster(name: str, namespace: str, kubeconfig: str, lease: str) -> tuple[Object, Leader | Missing | None]:
    async def question(api: KubeAPI) -> tuple[Object, Leader | Missing]:
        return await read_pool(api, namespace, name), await find_leader(api, namespace, lease, time.time())

    return ask(kubeconfig, question)


def _print(page: Explanation) -> None:
    """Colours on a terminal alone, and none where NO_COLOR asks for none."""
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for line in lines(page):
        # Models' names and errors in it come from servers: nothing of them may steer a terminal.
        text = printable(line.text)
        typer.echo(typer.style(text, **_COLOURS.get(line.style, {})) if coloured else text)
