"""The LLMWorkerPool document: its parts, and reading it."""

from .document import LLMWorkerPool, LLMWorkerPoolSpec, Metadata, Paused, Queue
from .parts import MAX_REPLICAS, Service
from .places import Ollama, Prometheus, Redis, SecretRef, Sidecar
from .reading import POOL_MAX_BYTES, PoolError, load_pool, parse_pool
from .scaling import (
    Behavior,
    DrainTime,
    Fallback,
    GPUUtilization,
    Metric,
    Policy,
    PrometheusMetric,
    QueueDepth,
    Scaling,
    ScalingRules,
    Schedule,
)
from .worker import OWNED_ENV, Models, PodTemplate, Resources, Worker

__all__ = [
    "MAX_REPLICAS",
    "OWNED_ENV",
    "POOL_MAX_BYTES",
    "Behavior",
    "DrainTime",
    "Fallback",
    "GPUUtilization",
    "LLMWorkerPool",
    "LLMWorkerPoolSpec",
    "Metadata",
    "Metric",
    "Models",
    "Ollama",
    "Paused",
    "PodTemplate",
    "Policy",
    "PoolError",
    "Prometheus",
    "PrometheusMetric",
    "Queue",
    "QueueDepth",
    "Redis",
    "Resources",
    "Scaling",
    "ScalingRules",
    "Schedule",
    "SecretRef",
    "Service",
    "Sidecar",
    "Worker",
    "load_pool",
    "parse_pool",
]
