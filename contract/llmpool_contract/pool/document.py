"""The LLMWorkerPool document: what ``crds/llmworkerpools.yaml`` says, in Python. A test holds the two together."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from llmpool_contract import env

from .parts import LABEL, MAX_REPLICAS, Part, decimal, refuse_twice
from .places import Ollama, OllamaService, Prometheus, Redis, Target
from .scaling import Scaling
from .worker import Models, Worker

OLLAMA_NUM_PARALLEL = "OLLAMA_NUM_PARALLEL"
"""A variable of the server that the worker reads, too."""


class Queue(Part):
    """A queue whose jobs this pool works on."""

    name: str = Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._:-]+$")
    weight: Annotated[Decimal, BeforeValidator(decimal)] = Field(default=Decimal(1), gt=0, le=1000)
    """What one of its jobs counts, against 1 for a job of a queue without a weight."""


Paused = Literal["None", "All", "ScaleIn", "ScaleOut"]


class LLMWorkerPoolSpec(Part):
    """What the user wants."""

    replicas: int | None = Field(default=None, ge=0, le=MAX_REPLICAS)
    """A size by hand, which turns autoscaling off. Absent: autoscaling."""
    queues: list[Queue] = Field(min_length=1, max_length=32)
    redis: Redis
    ollama: Ollama = Field(default_factory=lambda: Ollama(service=OllamaService(name="ollama")))
    worker: Worker = Field(default_factory=Worker)
    models: Models = Field(default_factory=Models)
    scaling: Scaling = Field(default_factory=Scaling)
    prometheus: Prometheus | None = None
    """Where ``Prometheus`` metrics are asked for, and the GPUs' readings where the workers tell none."""
    mode: Literal["Active", "Observe"] = "Active"
    """``Observe``: decides and reports, but changes nothing: to run beside another autoscaler and compare."""
    target: Target | None = None
    """The Deployment that ``Observe`` looks at. Absent: the one of the pool's own name."""
    paused: Paused = "None"
    """What autoscaling may not do. A size by hand is an order, and not held up."""

    @model_validator(mode="after")
    def _queues_are_unique(self) -> Self:
        refuse_twice("queues", [queue.name for queue in self.queues])
        return self

    @model_validator(mode="after")
    def _target_is_only_looked_at(self) -> Self:
        if self.target is not None and self.mode != "Observe":
            raise ValueError("target: only with mode Observe, an Active pool has a Deployment of its own name")
        return self

    @model_validator(mode="after")
    def _parallel_is_the_sidecar_s(self) -> Self:
        if self.ollama.sidecar is not None and OLLAMA_NUM_PARALLEL in {variable.name for variable in self.worker.env}:
            raise ValueError(f"worker.env: {OLLAMA_NUM_PARALLEL}: set by ollama.sidecar.parallel, not allowed here")
        return self

    @model_validator(mode="after")
    def _metrics_have_what_they_need(self) -> Self:
        for index, metric in enumerate(self.scaling.metrics):
            at = f"scaling.metrics[{index}]"
            if metric.type == "Prometheus" and self.prometheus is None:
                raise ValueError(f"{at}: type Prometheus needs spec.prometheus")
            if metric.type == "GPUUtilization" and (self.ollama.sidecar is None) != (metric.role == "Ceiling"):
                wanted = "Ceiling: workers share the model server" if self.ollama.sidecar is None else "Target"
                raise ValueError(f"{at}.role: got {metric.role}, allowed is {wanted}")
        return self


class Metadata(BaseModel):
    """The part of ``metadata`` that we read; the rest is the API server's to check."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    name: str = Field(min_length=1, max_length=40, pattern=LABEL)
    """Short enough for a pod's name, made from it, to be a host's name too."""
    namespace: str = Field(default="default", min_length=1, max_length=63, pattern=LABEL)
    uid: str | None = None
    generation: int | None = None


class LLMWorkerPool(Part):
    """One pool."""

    api_version: Literal["llmpool.dev/v1alpha1"]
    kind: Literal["LLMWorkerPool"]
    metadata: Metadata
    spec: LLMWorkerPoolSpec
    status: dict[str, Any] | None = None
    """As the API server has it. Never read from a file."""

    @property
    def key(self) -> str:
        """``namespace/name``: what workers know as WORKER_POOL."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    def worker_env(self, ollama_url: str | None = None) -> dict[str, str]:
        """The environment of this pool's workers, but for what only a target knows: REDIS_URL, WORKER_ID, HEALTH_PORT.

        Durations become milliseconds, as the worker reads them. ``ollama_url`` replaces the spec's address.
        """
        worker, models, sidecar = self.spec.worker, self.spec.models, self.spec.ollama.sidecar
        timeout = str(worker.timeout_seconds * 1000)
        return {
            env.OLLAMA_TIMEOUT: timeout,  # the pool's own limit decides, unless env below says otherwise
            **{variable.name: variable.value for variable in worker.env},
            env.WORKER_POOL: self.key,
            env.WORKER_QUEUES: ",".join(queue.name for queue in self.spec.queues),
            env.WORKER_CONCURRENCY: str(worker.concurrency),
            env.WORKER_BATCH_SIZE: str(worker.batch_size),
            env.WORKER_TIMEOUT: timeout,
            env.WORKER_DRAIN: str(worker.drain_seconds * 1000),
            env.OLLAMA_BASE_URL: ollama_url or self.spec.ollama.url_from(self.metadata.namespace),
            env.BACKEND: worker.backend,
            env.ALLOWED_MODELS: "" if models.allowed == ["*"] else ",".join(models.allowed),
            env.MODEL_FALLBACKS: json.dumps(models.fallbacks) if models.fallbacks else "",
            env.MODEL_MEMORY_THRESHOLD: str(models.memory_threshold),
            **({} if sidecar is None else {OLLAMA_NUM_PARALLEL: str(sidecar.parallel)}),
        }
