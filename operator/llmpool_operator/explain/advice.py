"""What to do about a reason: one sentence for each that a person can do something about."""

from __future__ import annotations

import re

_PODS = "kubectl -n {namespace} describe pods -l llmpool.dev/pool={name}"
_ADVICE = {
    "APIBusy": "the API server is over its limit: the operator goes on as soon as it answers",
    "APIFailing": "the API server fails: the operator goes on as soon as it answers",
    "APIUnreachable": "the API server is away: the operator goes on as soon as it answers",
    "AmbiguousQueue": "give this pool queues of its own, or delete one of the two pools",
    "ConfigNotWritten": (
        "the operator must be able to write the pool's hash: docs/configuration.md has the second ACL line for it"
    ),
    "Conflict": "somebody else changed the Deployment at the same moment: the next turn tries again",
    "DeploymentIsBeingDeleted": (
        "once it is gone the operator makes a new one; one that stays has a finalizer that somebody must clear"
    ),
    "DeploymentNotOurs": "delete or rename that Deployment, or give the pool another name",
    "Forbidden": "the operator's Role lacks a right: the message names the call that was refused",
    "Gone": "the Deployment was deleted: the next turn makes a new one",
    "InvalidSpec": "mend the field that the message names",
    "ModelFailed": "see that the name is right and that the model fits the server's memory; the other models go on",
    "NoImage": "set spec.worker.image, or the operator's WORKER_IMAGE",
    "NoSuchDeployment": "see that spec.target, or else the pool's own name, is that of a Deployment in this namespace",
    "NoWorkerReady": f"see what the pods wait for: {_PODS}",
    "NotLeader": "another operator leads by now, and serves the pool: nothing is to be done",
    "PodsNotListed": "where this stays so, the operator's Role lacks list and watch of pods",
    "PoolConfigUnreadable": "the pool's config hash holds what no operator writes: see what else uses this Redis",
    "PoolNameTaken": "another cluster's pool of this name uses this Redis: rename one, or use another database",
    "PrometheusAuth": (
        "that Prometheus wants a login, and the operator has none: name an address that may be asked without"
    ),
    "PrometheusBadQuery": "Prometheus refuses the query: try it on Prometheus' own page",
    "PrometheusError": "Prometheus answers with an error: see its log",
    "PrometheusForbidden": (
        "spec.prometheus leads to an address that the operator never asks: its own machine's, a link-local "
        "one, or a cloud's metadata service"
    ),
    "PrometheusManyValues": "the query gives several series: make it one, as by sum()",
    "PrometheusNegative": "a load is never negative: see what the query measures, or bound it, as by clamp_min(..., 0)",
    "PrometheusNoValue": (
        "the query gives no series: see that it names one that exists; for none as zero add `or vector(0)`"
    ),
    "PrometheusNotANumber": "the query divides by zero, or its series has no number: try it on Prometheus' own page",
    "PrometheusNotAnAnswer": (
        "what answers there is no Prometheus: see spec.prometheus, with the path before /api/v1 if there is one"
    ),
    "PrometheusRedirect": "redirects are not followed: name in spec.prometheus where it leads to",
    "PrometheusStale": "Prometheus has not answered for a minute: see that it runs, and how long the query takes",
    "PrometheusTLS": (
        "see that Prometheus' certificate fits the address, and is signed by an authority that the operator knows"
    ),
    "PrometheusTimeout": "the query takes longer than 5 s: make it simpler, or a recording rule",
    "PrometheusTooLarge": "the answer is longer than 1 MB: sum the series up in the query",
    "PrometheusUnknownHost": "see that spec.prometheus names a host, or a Service of this namespace, that there is",
    "PrometheusUnreachable": (
        "see that spec.prometheus is right, that Prometheus runs, and that no NetworkPolicy is between"
    ),
    "ReadingFailed": "a fault of the operator's own: its log says where, please report it",
    "RedisAddress": "see that spec.redis has an address that can be connected to",
    "RedisAuth": "see that spec.redis.credentialsSecret has the password that Redis wants",
    "RedisBusy": "a script keeps Redis busy: the operator goes on as soon as it answers",
    "RedisClusterDown": "the Redis cluster doesn't serve all its slots: see `redis-cli cluster info`",
    "RedisError": "Redis refuses a command: see its log, and that it is Redis 6.2 or newer",
    "RedisLoading": "Redis is reading its data set: the operator goes on as soon as it has",
    "RedisMasterDown": "the Redis replica has lost its master: see the sentinels",
    "RedisMoved": "the Redis cluster is moving slots: the operator goes on as soon as that is done",
    "RedisNoMaster": "the sentinels name no master: see that spec.redis has the right name, and how they are",
    "RedisNoPermission": (
        "the Redis user lacks a right: docs/configuration.md has the two ACL lines that the operator needs"
    ),
    "RedisTLS": "see that Redis' certificate fits the address, and is signed by an authority that the operator knows",
    "RedisTimeout": "Redis is slower than the operator's REDIS_READ_TIMEOUT: see what keeps it busy",
    "RedisUnreachable": "see that spec.redis is right, that Redis runs, and that no NetworkPolicy is between",
    "Refused": "the API server refused the Deployment: often by a quota or an admission policy",
    "ScaledByAnother": "let one of the two size the Deployment: delete the other autoscaler, or set spec.mode: Observe",
    "SecretForbidden": "label the Secret llmpool.dev/redis=true, and name it in the operator's Role",
    "SecretNotFound": "make the Secret that spec.redis.credentialsSecret names, in the pool's namespace",
    "SecretUnreadable": "see that the Secret is there, with a key password, and that the operator may read it",
    "Unschedulable": f"add nodes, or lower what spec.worker.resources asks for; the scheduler's reason: {_PODS}",
    "WrongType": "a key of the queue holds something else than this project writes: see what else uses this Redis",
}


_CAUSE_FIRST = frozenset({"ConfigNotWritten"})
"""Reasons that say less than the cause in their message."""


def advice_for(reason: str, message: str, *, namespace: str, name: str) -> str | None:
    """By the reason, else by the first known word of the message: a missing metric's cause is in there."""
    causes = re.findall(r"[A-Za-z]+", message)
    words = [*causes, reason] if reason in _CAUSE_FIRST else [reason, *causes]
    known = next((_ADVICE[word] for word in words if word in _ADVICE), None)
    return None if known is None else known.format(namespace=namespace, name=name)
