"""What each worker of a pool is like, and which models it holds."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from llmpool_contract import env
from llmpool_contract.models import folded

from .parts import (
    MODEL,
    MODEL_MAX,
    QUALIFIED_NAME,
    SUBDOMAIN,
    ModelName,
    Part,
    ResourceAmount,
    not_elsewhere,
    refuse_twice,
)

_LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
LabelKey = Annotated[str, Field(min_length=1, max_length=317, pattern=QUALIFIED_NAME)]
LabelValue = Annotated[str, Field(max_length=63, pattern=_LABEL_VALUE)]
_Allowed = Annotated[
    str,
    Field(min_length=1, max_length=MODEL_MAX, pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9._:/@-]*)$"),
    AfterValidator(not_elsewhere),
]
_Fallen = Annotated[str, Field(min_length=1, max_length=MODEL_MAX, pattern=MODEL)]
_ResourceName = Annotated[str, Field(min_length=1, max_length=253, pattern=QUALIFIED_NAME)]
_DnsName = Annotated[str, Field(min_length=1, max_length=253, pattern=SUBDOMAIN)]


class EnvVar(Part):
    """A variable of the workers that the pool has no field for."""

    name: str = Field(min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    value: str = Field(max_length=4096)


class Resources(Part):
    """A container's ``resources``."""

    limits: dict[_ResourceName, ResourceAmount] = Field(default_factory=dict, max_length=16)
    requests: dict[_ResourceName, ResourceAmount] = Field(default_factory=dict, max_length=16)


class Toleration(Part):
    """A pod's toleration, as Kubernetes has it."""

    key: LabelKey | None = None
    operator: Literal["Exists", "Equal"] | None = None
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = Field(default=None, ge=0, le=10**9)

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        """Kubernetes' own rules."""
        if self.operator == "Exists" and self.value is not None:
            raise ValueError("value: not with operator Exists")
        if self.operator != "Exists" and self.key is None:
            raise ValueError("operator: wanted Exists, where there is no key")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError("tolerationSeconds: only with effect NoExecute")
        return self


class ImagePullSecret(Part):
    """A Secret of the pool's own namespace that the kubelet may pull images with."""

    name: _DnsName


class PodTemplate(Part):
    """What may be said about the pods beyond the worker itself: an allow-list of a pod's fields."""

    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=32)
    """Beside the pool's own, which they can't replace."""
    annotations: dict[LabelKey, Annotated[str, Field(max_length=4096)]] = Field(default_factory=dict, max_length=32)
    node_selector: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=32)
    tolerations: list[Toleration] = Field(default_factory=list, max_length=32)
    priority_class_name: _DnsName | None = None
    runtime_class_name: _DnsName | None = None
    service_account_name: _DnsName | None = None
    image_pull_secrets: list[ImagePullSecret] = Field(default_factory=list, max_length=8)

    @model_validator(mode="after")
    def _secrets_are_unique(self) -> Self:
        refuse_twice("imagePullSecrets", [secret.name for secret in self.image_pull_secrets])
        return self


OWNED_ENV = frozenset(
    {
        env.REDIS_URL,
        env.REDIS_USERNAME,
        env.REDIS_PASSWORD,
        env.REDIS_SENTINEL_USERNAME,
        env.REDIS_SENTINEL_PASSWORD,
        env.WORKER_POOL,
        env.WORKER_ID,
        env.WORKER_QUEUES,
        env.WORKER_CONCURRENCY,
        env.WORKER_BATCH_SIZE,
        env.WORKER_TIMEOUT,
        env.WORKER_DRAIN,
        env.OLLAMA_BASE_URL,
        env.BACKEND,
        env.HEALTH_PORT,
        env.ALLOWED_MODELS,
        env.MODEL_FALLBACKS,
        env.MODEL_MEMORY_THRESHOLD,
        env.MODEL_PRELOAD_LIST,
    }
)
"""Variables that the pool's own fields set, or that must agree with the pod: refused in ``worker.env``."""


class Worker(Part):
    """What each worker is like."""

    image: str = Field(default="", max_length=512, pattern=r"^\S*$")
    """Empty: the operator's WORKER_IMAGE; a pool is refused where that is empty, too."""
    backend: Literal["ollama", "openai", "echo"] = "ollama"
    concurrency: int = Field(default=5, ge=1, le=1024)
    """Jobs that one worker runs at the same time."""
    batch_size: int = Field(default=10, ge=1, le=1024)
    timeout_seconds: int = Field(default=300, ge=1, le=86_400)
    """The most that one job may take, from its claim."""
    drain_seconds: int = Field(default=600, ge=1, le=86_400)
    """What a worker that must end gets to finish what it runs. Not below ``timeout_seconds``."""
    env: list[EnvVar] = Field(default_factory=list, max_length=64)
    resources: Resources = Field(default_factory=Resources)
    pod_template: PodTemplate = Field(default_factory=PodTemplate)

    @model_validator(mode="after")
    def _drains_as_long_as_a_job_takes(self) -> Self:
        if self.drain_seconds < self.timeout_seconds:
            raise ValueError(
                f"drainSeconds: got {self.drain_seconds}, allowed are timeoutSeconds ({self.timeout_seconds}) and more"
            )
        return self

    @model_validator(mode="after")
    def _env_is_only_what_has_no_field(self) -> Self:
        names = [variable.name for variable in self.env]
        if owned := sorted(OWNED_ENV.intersection(names)):
            raise ValueError(f"env: {', '.join(owned)}: set by the pool's own fields, not allowed here")
        refuse_twice("env", names)
        return self


class Models(Part):
    """Which models the workers hold, and which they may use."""

    preload: list[ModelName] = Field(default_factory=list, max_length=32)
    """What each worker's server should hold. Changing it restarts nobody."""
    allowed: list[_Allowed] = Field(default_factory=lambda: ["*"], min_length=1, max_length=128)
    """What jobs may name. ``*``, alone: any model but cloud ones."""
    fallbacks: dict[_Fallen, Annotated[list[ModelName], Field(min_length=1, max_length=8)]] = Field(
        default_factory=dict, max_length=64
    )
    """Model -> what to try when it can't be served, in this order."""
    memory_threshold: float = Field(default=0.8, gt=0, le=1)
    """Share of the server's memory that models may take together."""

    @model_validator(mode="after")
    def _names_are_unique_and_allowed(self) -> Self:
        refuse_twice("preload", [folded(name) for name in self.preload])
        refuse_twice("allowed", [folded(name) for name in self.allowed])
        refuse_twice("fallbacks", [folded(name) for name in self.fallbacks])
        for model, names in self.fallbacks.items():
            refuse_twice(f"fallbacks.{model}", [folded(name) for name in names])
        if "*" in self.allowed:
            if len(self.allowed) > 1:
                raise ValueError("allowed: got * beside other names, wanted it alone: it allows all of them")
            return self
        allowed = {folded(name) for name in self.allowed}
        used = {"preload": self.preload, "fallbacks": [n for names in self.fallbacks.values() for n in names]}
        for field, names in used.items():
            if unknown := sorted({name for name in names if folded(name) not in allowed}):
                raise ValueError(f"{field}: {', '.join(unknown)}: not among allowed")
        return self
