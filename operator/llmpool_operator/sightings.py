"""A pool's sighting, made whole: what Redis said, and what others are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from llmpool_contract.pool import LLMWorkerPool

from .decide.types import Missing
from .gpu import NO_GPU, GPUReading, dcgm_query, of_samples, of_workers
from .observe import Wish
from .prometheus import REFRESH_S, Heard, Prometheus, shown
from .promql import one_value
from .questions import Questions
from .targets.base import Sighting

TOLD_REFRESH_S = 30.0
"""How often GPUs are asked for that no metric goes by: the query is the most costly one."""
# What Kubernetes puts after a workload's name: a StatefulSet the pod's number, a Deployment the hash of its ReplicaSet
# and that one five characters more, both of the letters and digits of apimachinery's `rand.SafeEncodeString`.
_ORDINAL = "-[0-9]+"
_OF_DEPLOYMENT = "-[bcdf-hj-np-tv-z2456789]{1,10}-[bcdf-hj-np-tv-z2456789]{5}"


def wish_of(pool: LLMWorkerPool, *, prometheus_url: str | None = None) -> Wish:
    """What to read for a pool. ``prometheus_url`` replaces the spec's address."""
    spec, namespace = pool.spec, pool.metadata.namespace
    server = None if spec.prometheus is None else prometheus_url or spec.prometheus.url_from(namespace)
    questions = Questions(
        server,
        tuple(metric.prometheus.query for metric in spec.scaling.metrics if metric.prometheus is not None),
        dcgm_query(namespace, pods) if server and (pods := _gpu_pods(pool)) else None,
        spec.ollama.sidecar is None,
        any(metric.type == "GPUUtilization" for metric in spec.scaling.metrics),
    )
    queues = tuple(queue.name for queue in spec.queues)
    return Wish(pool.key, queues, float(spec.scaling.idle_seconds), questions)


def _gpu_pods(pool: LLMWorkerPool) -> str | None:
    """A regular expression for the names of the pods that have the pool's GPUs; None: nobody knows them.

    The Deployment's own where each has its Ollama; else those that are named after Ollama's Service, as its
    Deployment or StatefulSet usually is. Not those of a workload whose name only begins with it.
    """
    ollama = pool.spec.ollama
    if ollama.sidecar is not None:
        name = pool.spec.target.name if pool.spec.target is not None else pool.metadata.name
        return f"{name.replace('.', '[.]')}{_OF_DEPLOYMENT}"
    if ollama.service is not None:
        return f"{ollama.service.name}({_ORDINAL}|{_OF_DEPLOYMENT})"
    return None


def completed(wish: Wish, sighting: Sighting, prometheus: Prometheus) -> Sighting:
    """The sighting with the queries' values and the GPUs' readings."""
    values, moments = _queries(wish.questions, sighting, prometheus)
    gpu = _gpu(wish.questions, sighting, prometheus)
    observation = sighting.observation
    if values:
        observation = replace(observation, queries=values, queried_at=moments)
    return replace(sighting, observation=observation, gpu=gpu.whole, gpu_by_pod=gpu.by_pod)


def without_others(wish: Wish, sighting: Sighting, missing: Missing) -> Sighting:
    """The sighting where nothing could be made of what others tell."""
    queries = dict.fromkeys(wish.questions.queries, missing)
    return replace(sighting, observation=replace(sighting.observation, queries=queries), gpu=missing)


def _queries(
    questions: Questions, sighting: Sighting, prometheus: Prometheus
) -> tuple[Mapping[str, Fraction | Missing], Mapping[str, float]]:
    values: dict[str, Fraction | Missing] = {}
    moments: dict[str, float] = {}
    for query in questions.queries if questions.prometheus else ():
        heard = prometheus.ask(questions.prometheus or "", query)
        values[query] = heard if isinstance(heard, Missing) else _value(heard, questions.prometheus or "")
        if not isinstance(heard, Missing):
            moments[query] = sighting.observation.at - heard.age
    return values, moments


def _value(heard: Heard, url: str) -> Fraction | Missing:
    value = one_value(heard.samples)
    return Missing(f"{value.reason} at {shown(url)}") if isinstance(value, Missing) else value


def _gpu(questions: Questions, sighting: Sighting, prometheus: Prometheus) -> GPUReading:
    at, shared = sighting.observation.at, questions.shared_server
    if not isinstance(sighting.reports, Missing) and sighting.redis_ms is not None:
        reading = of_workers(sighting.reports, shared=shared, at=at, redis_ms=sighting.redis_ms)
        if reading is not None:
            return reading
    if questions.prometheus is None or questions.gpu_query is None:
        return GPUReading(sighting.reports, {}) if isinstance(sighting.reports, Missing) else NO_GPU
    refresh = REFRESH_S if questions.gpu_decides else TOLD_REFRESH_S
    heard = prometheus.ask(questions.prometheus, questions.gpu_query, refresh=refresh)
    if isinstance(heard, Missing):
        return GPUReading(heard, {})
    return of_samples(heard.samples, shared=shared, at=at - heard.age)
