"""A HorizontalPodAutoscaler (autoscaling/v2) as a pool that observes."""

from __future__ import annotations

from typing import Any

from .draft import Draft, Given, settle_queues, take_behavior, take_target
from .fields import Fields, ImportFault

_KEDA_LABEL = "scaledobject.keda.sh/name"
_BLOCKS = {
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "Pods": "pods",
    "Object": "object",
    "External": "external",
}


def from_hpa(source: Fields, given: Given) -> Draft:
    """The pool that comes nearest to an HPA: bounds and behavior are the same; what it measures has to be given.

    Raises:
        ImportFault: what can't be read, or is needed and not in there.
    """
    if source.text("apiVersion") != "autoscaling/v2":
        raise ImportFault(
            f"apiVersion: got {source.text('apiVersion')}, wanted autoscaling/v2, "
            "as `kubectl get hpa NAME -o yaml` prints it"
        )
    draft = Draft(source, given)
    spec = source.part("spec")
    take_target(draft)
    spec.needed("maxReplicas")
    draft.scaling.update(minReplicas=spec.whole("minReplicas", 1), maxReplicas=spec.whole("maxReplicas", 0))
    _note_keda(draft, source.part("metadata").part("labels"))
    _take_metrics(draft, spec.parts("metrics"))
    settle_queues(draft, reads=spec.at("metrics"))
    take_behavior(draft, spec)
    return draft


def _note_keda(draft: Draft, labels: Fields) -> None:
    if labels.has(_KEDA_LABEL):
        draft.note(
            labels.at(_KEDA_LABEL),
            f"KEDA made this HPA: `llmpool import scaledobject` of {labels.text(_KEDA_LABEL)} takes over more",
        )


def _take_metrics(draft: Draft, metrics: list[Fields]) -> None:
    """The target of the one External metric is kept, for the queues or the query that the command line names."""
    externals = [metric for metric in metrics if metric.text("type") == "External"]
    target = _target(externals[0]) if len(externals) == 1 else None
    kept = target is not None and _keep(draft, target)
    for metric in metrics:
        kind = metric.needed("type")
        if kind not in _BLOCKS:
            raise ImportFault(f"{metric.at('type')}: got {kind!a}, allowed are {', '.join(_BLOCKS)}")
        if kept and metric is externals[0]:
            draft.note(metric.path, f"{_named(metric)}: its target is taken over, for what the command line names")
        else:
            draft.note(metric.path, f"{_named(metric)}: {_advice(kind)}")


def _keep(draft: Draft, target: dict[str, Any]) -> bool:
    given = draft.given
    if given.query and given.prometheus_url:
        draft.spec["prometheus"] = {"url": given.prometheus_url}
        draft.metrics.append({"type": "Prometheus", "prometheus": {"query": given.query, **target}})
        return True
    if given.queues and "averageValue" in target:
        draft.metrics.append({"type": "QueueDepth", "queueDepth": target})
        return True
    return False


def _target(metric: Fields) -> dict[str, Any]:
    target = metric.part("external").part("target")
    kind = target.text("type", "AverageValue")
    field = {"AverageValue": "averageValue", "Value": "value"}.get(kind)
    if field is None:
        raise ImportFault(f"{target.at('type')}: got {kind!a}, allowed are AverageValue and Value")
    return {field: target.needed(field)}


def _named(metric: Fields) -> str:
    kind = metric.text("type")
    block = metric.part(_BLOCKS[kind])
    name = block.text("name") or block.part("metric").text("name", "without a name")
    return f"{kind} metric {name}"


def _advice(kind: str) -> str:
    if kind in ("Resource", "ContainerResource"):
        return (
            "no counterpart: workers wait for a model server, their CPU and memory don't tell how much there is to do"
        )
    return (
        "what is measured isn't in the file. If it is a queue: --queue; if it is a query: --query and --prometheus-url"
    )
