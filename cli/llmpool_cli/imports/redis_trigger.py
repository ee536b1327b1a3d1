"""KEDA's triggers of Redis lists: queues, one metric over all of them, and the Redis' address."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from .draft import Draft
from .fields import Fields, ImportFault

KINDS = {"redis": "", "redis-cluster": "+cluster", "redis-sentinel": "+sentinel"}
"""Trigger type -> what the address' scheme ends in."""
_DEFAULT_LENGTH = 5
_CREDENTIALS = ("usernameFromEnv", "passwordFromEnv", "sentinelUsernameFromEnv", "sentinelPasswordFromEnv")


def take_redis(draft: Draft, triggers: list[Fields]) -> None:
    """All list triggers of a ScaledObject. KEDA asks for the largest of their sizes, a pool for the sum.

    Raises:
        ImportFault: two Redis servers, or an address that the file doesn't have.
    """
    lengths: dict[str, int] = {}
    for trigger in triggers:
        metadata = trigger.part("metadata")
        name, length = metadata.needed("listName"), metadata.whole("listLength", _DEFAULT_LENGTH)
        if length == 0:
            raise ImportFault(f"{metadata.at('listLength')}: got 0, wanted 1 or more")
        if name in lengths:
            draft.note(metadata.at("listName"), f"{name} is there twice; the smaller listLength counts")
        lengths[name] = min(length, lengths.get(name, length))
        _note_the_rest(draft, trigger, metadata)
    if not lengths:
        return
    _take_queues(draft, lengths)
    _note_databases(draft, triggers)
    if not draft.given.redis_url:
        draft.spec["redis"] = {"url": _one_address(triggers)}


def _take_queues(draft: Draft, lengths: dict[str, int]) -> None:
    per_worker = next(iter(lengths.values()))
    queues: list[dict[str, Any]] = []
    for name, length in lengths.items():
        weight = round(Decimal(per_worker) / length, 6)
        queues.append({"name": name} if weight == 1 else {"name": name, "weight": float(weight)})
    draft.spec["queues"] = queues
    draft.metrics.append({"type": "QueueDepth", "queueDepth": {"averageValue": per_worker}})
    draft.note("spec.triggers", "KEDA counts the jobs that wait; a pool also those that workers have in hand")
    if len(lengths) > 1:
        draft.note(
            "spec.triggers",
            "KEDA takes the largest size that one list asks for; a pool adds the lists up, "
            "weighted by their listLength",
        )


def _note_databases(draft: Draft, triggers: list[Fields]) -> None:
    """Lists of several databases: a pool looks into the one of its address.

    Raises:
        ImportFault: no address is given that says which.
    """
    parts = [trigger.part("metadata") for trigger in triggers if trigger.text("type") != "redis-cluster"]
    first, *others = [(part.at("databaseIndex"), part.whole("databaseIndex", 0)) for part in parts] or [("", 0)]
    for at, index in others:
        if index == first[1]:
            continue
        found = f"got {index}, and {first[0]} is {first[1]}: a pool has one database"
        if not draft.given.redis_url:
            raise ImportFault(f"{at}: {found}. Import them one by one, or give the address for all: --redis-url URL")
        draft.note(at, f"{found}, that of --redis-url; lists elsewhere are not seen")


def _note_the_rest(draft: Draft, trigger: Fields, metadata: Fields) -> None:
    if trigger.text("metricType", "AverageValue") != "AverageValue":
        draft.note(trigger.at("metricType"), "Value has no counterpart for a queue; taken as AverageValue")
    if metadata.whole("activationListLength", 0):
        draft.note(metadata.at("activationListLength"), "no counterpart: the first job wakes a pool at zero")
    secret = [name for name in _CREDENTIALS if metadata.has(name)]
    if trigger.has("authenticationRef") or secret:
        at = metadata.at(secret[0]) if secret else trigger.at("authenticationRef")
        if not draft.given.redis_secret:
            draft.note(at, "a pool takes the password from redis.credentialsSecret: --redis-secret NAME")


def _one_address(triggers: list[Fields]) -> str:
    found = [(trigger, _address(trigger)) for trigger in triggers]
    first, url = found[0]
    for trigger, other in found[1:]:
        if other != url:
            raise ImportFault(
                f"{trigger.at('metadata')}: another Redis than that of {first.path}: a pool has one. "
                "Import them one by one, or give the address for all: --redis-url URL"
            )
    return url


def _address(trigger: Fields) -> str:
    metadata = trigger.part("metadata")
    kind = trigger.text("type")
    hosts = _hosts(metadata, several=kind != "redis")
    tls = metadata.truth("enableTLS")
    if kind == "redis-sentinel":
        hosts += "/" + _from_the_file(metadata, "sentinelMaster")
    database = metadata.whole("databaseIndex", 0)
    path = f"/{database}" if database and kind != "redis-cluster" else ""
    options = "?ssl_cert_reqs=none" if tls and metadata.truth("unsafeSsl") else ""
    return f"{'rediss' if tls else 'redis'}{KINDS[kind]}://{hosts}{path}{options}"


def _hosts(metadata: Fields, *, several: bool) -> str:
    """``host:port``, or several of them with commas between: from addresses, or from hosts and ports."""
    address, host, port = ("addresses", "hosts", "ports") if several else ("address", "host", "port")
    if not metadata.has(host):
        return _from_the_file(metadata, address).replace(" ", "")
    hosts, ports = (_from_the_file(metadata, name).replace(" ", "").split(",") for name in (host, port))
    if len(hosts) != len(ports):
        raise ImportFault(f"{metadata.at(port)}: got {len(ports)}, wanted as many as {host} ({len(hosts)})")
    return ",".join(f"{one}:{its}" for one, its in zip(hosts, ports, strict=True))


def _from_the_file(metadata: Fields, name: str) -> str:
    if metadata.has(name):
        return metadata.text(name)
    variable = f"{name}FromEnv"
    if metadata.has(variable):
        where = f"{metadata.at(variable)}: the value is in a variable of the workers ({metadata.text(variable)})"
    else:
        where = f"{metadata.at(name)}: missing"
    raise ImportFault(f"{where}, so the address must be given: --redis-url URL")
