"""``llmpool resume``: autoscaling instead of a size by hand."""

from __future__ import annotations

import typer

from llmpool_operator.kube import KubeAPI, Object, pool_path

from .cluster import Kubeconfig, Namespace, PoolName, ask, namespace_or_current, read_pool

_MANAGER = "llmpool"
"""Field manager of what a person changes by a command: the operator has a name of its own."""


def resume(pool: PoolName, namespace: Namespace = None, kubeconfig: Kubeconfig = "") -> None:
    """Remove spec.replicas, which somebody set by hand or by `kubectl scale`: the metrics size the pool again.

    Nothing happens to a pool that has none.
    """
    place = namespace_or_current(namespace, kubeconfig)

    async def question(api: KubeAPI) -> Object:
        found = await read_pool(api, place, pool)
        if "replicas" in found["spec"]:
            # The uid is a precondition: this pool, not one of the same name that came after it.
            body = {"metadata": {"uid": found["metadata"]["uid"]}, "spec": {"replicas": None}}
            await api.merge(pool_path(place, pool), body, manager=_MANAGER)
        return found

    found = ask(kubeconfig, question)
    fixed = found["spec"].get("replicas")
    if fixed is None:
        typer.echo(f"{place}/{pool} has no size by hand: autoscaling is on{_paused(found)}")
    else:
        typer.echo(
            f"{place}/{pool}: the size by hand ({fixed}) is gone, autoscaling goes on from there{_paused(found)}"
        )


def _paused(pool: Object) -> str:
    paused = pool["spec"].get("paused") or "None"
    return "" if paused == "None" else f"; but spec.paused is {paused}"
