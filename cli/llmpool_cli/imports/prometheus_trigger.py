"""KEDA's Prometheus triggers: queries with one target each, of one server."""

from __future__ import annotations

from .draft import Draft
from .fields import Fields

_ABSENT_IS_ZERO = "ignoreNullValues"
_LOGIN = ("customHeaders", "authModes", "awsRegion", "identityOwner")
_REQUEST = ("namespace", "queryParameters", "unsafeSsl", "timeout")


def take_prometheus(draft: Draft, triggers: list[Fields]) -> None:
    """All Prometheus triggers of a ScaledObject; those of another server than the first one's are left out."""
    server = draft.given.prometheus_url
    for trigger in triggers:
        metadata = trigger.part("metadata")
        address = metadata.needed("serverAddress").rstrip("/")
        server = server or address
        if address != server and not draft.given.prometheus_url:
            draft.note(metadata.at("serverAddress"), "another server than the one before: a pool asks one; left out")
            continue
        _take_query(draft, trigger, metadata)
    if server:
        draft.spec["prometheus"] = {"url": server}


def _take_query(draft: Draft, trigger: Fields, metadata: Fields) -> None:
    target = "value" if trigger.text("metricType", "AverageValue") == "Value" else "averageValue"
    block = {"query": metadata.needed("query").strip(), target: metadata.needed("threshold")}
    draft.metrics.append({"type": "Prometheus", "prometheus": block})
    if metadata.text("activationThreshold", "0") not in ("0", "0.0"):
        draft.note(metadata.at("activationThreshold"), "no counterpart: from zero, a pool is woken by its queues alone")
    if metadata.truth(_ABSENT_IS_ZERO) or not metadata.has(_ABSENT_IS_ZERO):
        draft.note(
            metadata.at(_ABSENT_IS_ZERO),
            "KEDA takes an empty answer for 0, a pool for missing. `QUERY or vector(0)` says that it is 0",
        )
    for field in (*_LOGIN, *_REQUEST):
        if metadata.has(field):
            draft.note(metadata.at(field), "no counterpart")
    if trigger.has("authenticationRef"):
        draft.note(trigger.at("authenticationRef"), "no counterpart: a pool asks Prometheus without a login")
