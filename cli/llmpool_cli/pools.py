"""``llmpool pools``."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer

from llmpool_operator.explain.times import seconds_of
from llmpool_operator.kube import KubeAPI, Object, pools_path

from .cluster import Kubeconfig, Namespace, ask, namespace_or_current, ready_of
from .session import Output
from .terminal import duration, table

HEADERS = ("NAMESPACE", "NAME", "READY", "REASON", "REPLICAS", "DESIRED", "BUSY", "QUEUED", "GPU", "AGE")


def pools(
    namespace: Namespace = None,
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Those of all namespaces.")] = False,
    output: Output = "text",
    kubeconfig: Kubeconfig = "",
) -> None:
    """List the pools of a namespace: sizes, busy workers, jobs that wait, and how busy the GPUs are (percent)."""
    place = None if everywhere else namespace_or_current(namespace, kubeconfig)

    async def question(api: KubeAPI) -> list[Object]:
        found, _ = await api.list(pools_path(place))
        return found

    found = [_facts(pool) for pool in ask(kubeconfig, question)]
    if output == "json":
        typer.echo(json.dumps(found))
    elif found:
        table(HEADERS, [_row(facts) for facts in found])
    else:
        typer.echo("no pools" + ("" if place is None else f" in namespace {place}"))


def _facts(pool: Object) -> dict[str, Any]:
    metadata, status = pool["metadata"], pool.get("status") or {}
    ready = ready_of(pool)
    born = seconds_of(metadata.get("creationTimestamp"))
    return {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "ready": ready.get("status"),
        "reason": ready.get("reason"),
        "replicas": status.get("replicas"),
        "desired": status.get("desiredReplicas"),
        "busy": status.get("busy"),
        "queued": status.get("queued"),
        "gpuPercent": (status.get("gpu") or {}).get("utilization"),
        "ageSeconds": None if born is None else round(time.time() - born),
    }


def _row(facts: dict[str, Any]) -> tuple[str | int, ...]:
    *known, age = facts.values()
    return (*("-" if value is None else value for value in known), duration(age))
