"""The LLMWorkerPool document: what ``crds/llmworkerpools.yaml`` says, in Python.

A test holds the two together. Fields that don't work yet are refused here and there, by name.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator
from pydantic.alias_generators import to_camel

from . import env
from .faults import faults_of
from .labels import API_VERSION, KIND

POOL_MAX_BYTES = 262_144
"""Default bound on a pool's YAML, bytes."""
MAX_REPLICAS = 10_000
_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_QUANTITY = r"^[0-9]{1,12}(\.[0-9]{1,9})?(m|k)?$"
_RESOURCE = r"^[0-9]{1,18}(\.[0-9]{1,9})?([numkMGTPE]|[KMGTPE]i)?$"
# Options of TLS alone: `?password=` would be a way round the Secret, and redis-py has options that load what they name.
_REDIS_URL = r"^rediss?://[^@\s?]+(\?ssl_[a-z_]+=[^&\s@]*(&ssl_[a-z_]+=[^&\s@]*)*)?$"
_SCALE = {"m": Decimal("0.001"), "": Decimal(1), "k": Decimal(1000)}


class PoolError(ValueError):
    """A document that isn't an LLMWorkerPool. ``faults``: one sentence each, field, what was given, what is allowed."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__("not a valid LLMWorkerPool:\n" + "\n".join(f"  {fault}" for fault in faults))
        self.faults = faults


def _decimal(value: Any) -> Any:
    """Numbers by their shortest decimal form, so that YAML's 0.2 is a fifth. Anything else goes on unread."""
    if isinstance(value, float | int) and not isinstance(value, bool):
        return Decimal(repr(value))
    return value


def _quantity(value: Any) -> Any:
    """A Kubernetes quantity: a number, or a string such as ``"50m"``, which is how the API server writes 0.05."""
    if not isinstance(value, str):
        return _decimal(value)
    if not re.fullmatch(_QUANTITY, value):
        raise ValueError(f"got {value[:40]!a}, wanted a number such as 0.05 or a quantity such as '50m'")
    digits = value.rstrip("mk")
    return Decimal(digits) * _SCALE[value[len(digits) :]]


def _resource_amount(value: Any) -> Any:
    if isinstance(value, bool | float) or not re.fullmatch(_RESOURCE, str(value)):
        raise ValueError(f"got {str(value)[:40]!a}, wanted a whole number or a string such as '500m' or '8Gi'")
    return value


_QUANTITY_SCHEMA = Field(json_schema_extra={"pattern": _QUANTITY})
PerWorker = Annotated[Decimal, Field(gt=0, le=1_000_000), BeforeValidator(_quantity), _QUANTITY_SCHEMA]
Tolerance = Annotated[Decimal, Field(ge=0, le=1000), BeforeValidator(_quantity), _QUANTITY_SCHEMA]
Count = Annotated[int, Field(ge=1, le=2_147_483_647)]
ResourceAmount = Annotated[str | int, BeforeValidator(_resource_amount), WithJsonSchema({"pattern": _RESOURCE})]


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, alias_generator=to_camel, allow_inf_nan=False, validate_default=True
    )

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_null(cls, value: Any) -> Any:
        if isinstance(value, dict) and (nulls := [str(key) for key, given in value.items() if given is None]):
            raise ValueError(f"{', '.join(nulls)}: null is no value, leave the field out")
        return value


class Queue(_Part):
    """A queue whose jobs this pool works on."""

    name: str = Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._:-]+$")
    weight: Annotated[Decimal, BeforeValidator(_decimal)] = Field(default=Decimal(1), gt=0, le=1000)
    """What one of its jobs counts, against 1 for a job of a queue without a weight."""


class Service(_Part):
    """A Service in the pool's own namespace."""

    name: str = Field(max_length=63, pattern=_LABEL)
    port: int = Field(ge=1, le=65_535)


class RedisService(Service):
    """``service`` of ``spec.redis``."""

    port: int = Field(default=6379, ge=1, le=65_535)


class OllamaService(Service):
    """``service`` of ``spec.ollama``."""

    port: int = Field(default=11_434, ge=1, le=65_535)


class SecretRef(_Part):
    """A Secret in the pool's own namespace."""

    name: str = Field(max_length=253, pattern=_SUBDOMAIN)


class Redis(_Part):
    """Where the queues are: exactly one of ``url`` and ``service``."""

    url: str | None = Field(default=None, max_length=512, pattern=_REDIS_URL)
    """Without a password: that is what ``credentials_secret`` is for."""
    service: RedisService | None = None
    credentials_secret: SecretRef | None = None

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        _check_one_address(self.url, self.service)
        return self

    def url_from(self, namespace: str) -> str:
        """The address without credentials, as seen from any namespace of the cluster."""
        if self.service is None:
            return self.url or ""
        return f"redis://{self.service.name}.{namespace}.svc:{self.service.port}/0"


class Ollama(_Part):
    """Where the model server is: exactly one of ``url`` and ``service``."""

    url: str | None = Field(default=None, max_length=512, pattern=r"^https?://[^@\s]+$")
    service: OllamaService | None = None

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        _check_one_address(self.url, self.service)
        return self

    def url_from(self, namespace: str) -> str:
        """The address, as seen from any namespace of the cluster."""
        if self.service is None:
            return self.url or ""
        return f"http://{self.service.name}.{namespace}.svc:{self.service.port}"


def _check_one_address(url: str | None, service: Service | None) -> None:
    if (url is None) == (service is None):
        given = "neither" if url is None else "both"
        raise ValueError(f"got {given} of url and service, wanted exactly one")


class EnvVar(_Part):
    """A variable of the workers that the pool has no field for."""

    name: str = Field(min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    value: str = Field(max_length=4096)


class Resources(_Part):
    """A container's ``resources``."""

    limits: dict[Annotated[str, Field(max_length=253)], ResourceAmount] = Field(default_factory=dict, max_length=16)
    requests: dict[Annotated[str, Field(max_length=253)], ResourceAmount] = Field(default_factory=dict, max_length=16)


OWNED_ENV = frozenset(
    {
        env.REDIS_URL,
        env.REDIS_USERNAME,
        env.REDIS_PASSWORD,
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
    }
)
"""Variables that the pool's own fields set, or that must agree with the pod: refused in ``worker.env``."""


class Worker(_Part):
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
        _refuse_twice("env", names)
        return self


def _refuse_twice(field: str, names: list[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{field}: {', '.join(twice)}: there more than once")


class QueueDepth(_Part):
    """Jobs, waiting and in flight, that one worker should have."""

    average_value: PerWorker = Decimal(5)


class Metric(_Part):
    """One thing that asks for a size. The largest of several counts."""

    type: Literal["QueueDepth"]
    queue_depth: QueueDepth = Field(default_factory=QueueDepth)


class Policy(_Part):
    """At most ``value`` pods or percent within any ``period_seconds``."""

    type: Literal["Pods", "Percent"]
    value: Count
    period_seconds: int = Field(ge=1, le=1800)


class ScalingRules(_Part):
    """One direction of ``behavior``. What is left out is filled as HPA fills it (``decide/rules.py``)."""

    stabilization_window_seconds: int | None = Field(default=None, ge=0, le=3600)
    select_policy: Literal["Max", "Min", "Disabled"] | None = None
    policies: list[Policy] | None = Field(default=None, min_length=1, max_length=16)
    tolerance: Tolerance | None = None


class Behavior(_Part):
    """autoscaling/v2's ``behavior``, field for field."""

    scale_up: ScalingRules | None = None
    scale_down: ScalingRules | None = None


class Scaling(_Part):
    """How the pool sizes itself."""

    min_replicas: int = Field(default=0, ge=0, le=MAX_REPLICAS)
    max_replicas: int = Field(default=10, ge=1, le=MAX_REPLICAS)
    idle_seconds: int = Field(default=300, ge=0, le=86_400)
    """How long all queues must be known to be empty before the pool goes to zero. Only with ``min_replicas`` 0."""
    metrics: list[Metric] = Field(
        default_factory=lambda: [Metric(type="QueueDepth")], min_length=1, max_length=8, validate_default=False
    )
    behavior: Behavior | None = None
    """Absent: up at once, down as HPA. Present, even if empty: HPA's defaults for what it leaves out."""

    @model_validator(mode="after")
    def _min_is_not_above_max(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"minReplicas: got {self.min_replicas}, allowed is maxReplicas ({self.max_replicas}) at most"
            )
        return self


Paused = Literal["None", "All", "ScaleIn", "ScaleOut"]


class LLMWorkerPoolSpec(_Part):
    """What the user wants."""

    replicas: int | None = Field(default=None, ge=0, le=MAX_REPLICAS)
    """A size by hand, which turns autoscaling off. Absent: autoscaling."""
    queues: list[Queue] = Field(min_length=1, max_length=32)
    redis: Redis
    ollama: Ollama = Field(default_factory=lambda: Ollama(service=OllamaService(name="ollama")))
    worker: Worker = Field(default_factory=Worker)
    scaling: Scaling = Field(default_factory=Scaling)
    paused: Paused = "None"
    """What autoscaling may not do. A size by hand is an order, and not held up."""

    @model_validator(mode="after")
    def _queues_are_unique(self) -> Self:
        _refuse_twice("queues", [queue.name for queue in self.queues])
        return self


class Metadata(BaseModel):
    """The part of ``metadata`` that we read; the rest is the API server's to check."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    name: str = Field(min_length=1, max_length=40, pattern=_LABEL)
    """Short enough for a pod's name, made from it, to be a host's name too."""
    namespace: str = Field(default="default", min_length=1, max_length=63, pattern=_LABEL)
    uid: str | None = None
    generation: int | None = None


class LLMWorkerPool(_Part):
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
        worker = self.spec.worker
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
        }


def parse_pool(document: Any) -> LLMWorkerPool:
    """Read a document that has been parsed already: the API server's object, or YAML's.

    Raises:
        PoolError: with all faults.
    """
    try:
        return LLMWorkerPool.model_validate(document)
    except ValidationError as error:
        raise PoolError(faults_of(error, LLMWorkerPool)) from None


def load_pool(text: str) -> LLMWorkerPool:
    """Read a pool's YAML (or JSON): exactly one document, no key twice.

    Raises:
        PoolError: with all faults.
    """
    if len(text) > POOL_MAX_BYTES:
        raise PoolError((f"document: {len(text)} characters, allowed are {POOL_MAX_BYTES}",))
    document = _parse_yaml(text)
    if not isinstance(document, dict):
        raise PoolError((f"document: got {type(document).__name__}, wanted a mapping of kind {KIND}, {API_VERSION}",))
    return parse_pool(document)


def _parse_yaml(text: str) -> Any:
    import yaml  # only those who read files need it: it isn't among the contract's dependencies

    class UniqueKeys(yaml.SafeLoader):
        """Refuses what YAML forbids and PyYAML lets pass: the same key twice."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
            seen: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"key {key.value!a} is there twice", problem_mark=key.start_mark)
                seen.add(str(key.value))
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader=UniqueKeys)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError) as error:
        raise PoolError((f"document: not YAML: {error}",)) from None
