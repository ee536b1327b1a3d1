"""The operators' Lease, which tells whether one is alive."""

from __future__ import annotations

from llmpool_operator.decide.types import Missing
from llmpool_operator.explain import Leader
from llmpool_operator.explain.times import seconds_of
from llmpool_operator.kube import APIError, KubeAPI, Object, collection

DEFAULT_LEASE = "llmpool-operator"
_API = "coordination.k8s.io/v1"


async def find_leader(api: KubeAPI, namespace: str, name: str, now: float) -> Leader | Missing:
    """Who leads the operators of a namespace: by the Lease in it where that is renewed, else by the only one of that
    name that is, wherever it is; where none is, by the one in the namespace, else by the only one. ``now``: Unix
    seconds.

    Missing where there is none, where several might be meant, or where Leases must not be read: an explanation does
    without.
    """
    own = await _own(api, namespace, name)
    if own is not None and own.is_alive(now):
        return own
    try:
        found = await api.get(f"{collection(None, 'leases', _API)}?fieldSelector=metadata.name%3D{name}")
    except APIError as error:
        if error.status != 403:
            raise
        return own or Missing(f"no right to look for the operator's Lease {name} outside of namespace {namespace}")
    leaders = [_leader(lease) for lease in found.get("items") or ()]
    alive = [leader for leader in leaders if leader.is_alive(now)]
    if own is not None and not alive:
        return own
    meant = alive or leaders
    if len(meant) > 1:
        return Missing(f"{len(meant)} namespaces have a Lease {name}")
    return meant[0] if meant else Missing(f"there is no Lease {name}")


async def _own(api: KubeAPI, namespace: str, name: str) -> Leader | None:
    try:
        return _leader(await api.get(f"{collection(namespace, 'leases', _API)}/{name}"))
    except APIError as error:
        if error.status not in (403, 404):
            raise
    return None


def _leader(lease: Object) -> Leader:
    spec = lease.get("spec") or {}
    return Leader(
        holder=spec.get("holderIdentity") or None,
        renewed_at=seconds_of(spec.get("renewTime")),
        duration=float(spec.get("leaseDurationSeconds") or 15),
    )
