"""A KEDA ScaledObject (keda.sh/v1alpha1) as a pool that observes."""

from __future__ import annotations

import re

from llmpool_contract.pool.scaling import CRON

from . import redis_trigger
from .draft import Draft, Given, settle_queues, take_behavior, take_target
from .fields import Fields, ImportFault
from .prometheus_trigger import take_prometheus

_PAUSES = "autoscaling.keda.sh/paused"
_DEFAULT_MAX = 100
_DEFAULT_COOLDOWN = 300
_DEFAULT_POLLING = 30
_FALLBACK_MOST = 86_400
_CRON_NAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


def from_scaledobject(source: Fields, given: Given) -> Draft:
    """The pool that would do what the ScaledObject does.

    Raises:
        ImportFault: what can't be read, or is needed and not in there.
    """
    draft = Draft(source, given)
    spec = source.part("spec")
    take_target(draft)
    _take_bounds(draft, spec)
    triggers = spec.parts("triggers")
    redis_trigger.take_redis(draft, [t for t in triggers if t.text("type") in redis_trigger.KINDS])
    take_prometheus(draft, [t for t in triggers if t.text("type") == "prometheus"])
    _take_cron(draft, [t for t in triggers if t.text("type") == "cron"])
    for trigger in triggers:
        if (kind := trigger.needed("type")) not in (*redis_trigger.KINDS, "prometheus", "cron"):
            draft.note(trigger.path, f"a trigger of type {kind} has no counterpart")
    settle_queues(draft, reads=spec.at("triggers"))
    _take_fallback(draft, spec)
    _take_advanced(draft, spec.part("advanced"))
    _take_pauses(draft, source.part("metadata").part("annotations"))
    return draft


def _take_bounds(draft: Draft, spec: Fields) -> None:
    least, most = spec.whole("minReplicaCount", 0), spec.whole("maxReplicaCount", _DEFAULT_MAX)
    if spec.has("idleReplicaCount"):
        idle = spec.whole("idleReplicaCount", 0)
        draft.note(
            spec.at("idleReplicaCount"),
            f"{idle} without work and at least {least} with any has no counterpart; taken as minReplicas {idle}",
        )
        least = idle
    draft.scaling.update(
        minReplicas=least, maxReplicas=most, idleSeconds=spec.whole("cooldownPeriod", _DEFAULT_COOLDOWN)
    )
    if spec.has("pollingInterval"):
        draft.note(spec.at("pollingInterval"), "no counterpart: a pool is looked at each second")
    if spec.whole("initialCooldownPeriod", 0):
        draft.note(spec.at("initialCooldownPeriod"), "no counterpart: idleSeconds count from the pool's beginning, too")


def _take_cron(draft: Draft, triggers: list[Fields]) -> None:
    least, most = draft.scaling["minReplicas"], draft.scaling["maxReplicas"]
    for trigger in triggers:
        metadata = trigger.part("metadata")
        desired = int(metadata.needed("desiredReplicas") and metadata.whole("desiredReplicas", 0))
        if desired > most:
            draft.note(metadata.at("desiredReplicas"), f"{desired} is more than maxReplicaCount; taken as {most}")
        zone = metadata.needed("timezone")
        for field, replicas in (("start", max(least, min(desired, most))), ("end", least)):
            schedule = {"cron": _cron(metadata, field), "timezone": zone, "minReplicas": replicas}
            if schedule not in draft.schedules:
                draft.schedules.append(schedule)
    if len(triggers) > 1:
        draft.note(
            "spec.triggers",
            "of cron triggers that overlap, KEDA takes the largest; of schedules, the one that fired last rules",
        )


def _cron(metadata: Fields, field: str) -> str:
    given = metadata.needed(field)
    cron = _CRON_NAMES.get(given.strip().lower(), " ".join(given.replace("?", "*").split()))
    if not re.fullmatch(CRON, cron):
        raise ImportFault(
            f"{metadata.at(field)}: got {given[:60]!a}, wanted five fields: minute, hour, day of month, month, "
            "day of week"
        )
    return cron


def _take_fallback(draft: Draft, spec: Fields) -> None:
    fallback = spec.part("fallback")
    if not fallback.given:
        return
    if (behavior := fallback.text("behavior", "static")) != "static":
        same = behavior == "currentReplicas"
        draft.note(
            fallback.at("behavior"),
            "without a fallback, a pool holds its size: that is currentReplicas"
            if same
            else f"{behavior} has no counterpart: the pool holds its size where it can't be measured",
        )
        return
    fallback.needed("replicas")
    replicas, most = fallback.whole("replicas", 0), draft.scaling["maxReplicas"]
    if replicas > most:
        draft.note(fallback.at("replicas"), f"{replicas} is more than maxReplicaCount; taken as {most}")
    seconds = fallback.whole("failureThreshold", 3) * spec.whole("pollingInterval", _DEFAULT_POLLING)
    draft.scaling["fallback"] = {"afterSeconds": min(seconds, _FALLBACK_MOST), "replicas": min(replicas, most)}
    draft.note(
        fallback.at("failureThreshold"),
        f"failures become time: {fallback.whole('failureThreshold', 3)} intervals of polling are {seconds} s",
    )


def _take_advanced(draft: Draft, advanced: Fields) -> None:
    take_behavior(draft, advanced.part("horizontalPodAutoscalerConfig"))
    if advanced.truth("restoreToOriginalReplicaCount"):
        draft.note(advanced.at("restoreToOriginalReplicaCount"), "no counterpart: a pool's workers go with the pool")
    if advanced.part("scalingModifiers").given:
        draft.note(
            advanced.at("scalingModifiers"),
            "no formulas here: the largest of the metrics counts, each on its own. A query can calculate",
        )


def _take_pauses(draft: Draft, annotations: Fields) -> None:
    if annotations.has(f"{_PAUSES}-replicas"):
        draft.spec["replicas"] = annotations.whole(f"{_PAUSES}-replicas", 0)
        draft.note(annotations.at(f"{_PAUSES}-replicas"), "a size by hand; without `replicas` the pool sizes itself")
        return
    shrink = any(annotations.truth(f"{_PAUSES}-{way}", otherwise=True) for way in ("scale-in", "scale-down"))
    grow = annotations.truth(f"{_PAUSES}-scale-out", otherwise=True)
    whole = annotations.truth(_PAUSES, otherwise=True) or (shrink and grow)
    if paused := "All" if whole else "ScaleIn" if shrink else "ScaleOut" if grow else "":
        draft.spec["paused"] = paused
