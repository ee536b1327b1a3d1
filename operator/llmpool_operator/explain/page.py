"""Why a pool has its size, as data: what ``llmpool explain -o json`` prints, and the text is made from."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from pydantic.alias_generators import to_camel


@dataclass(frozen=True, slots=True)
class Freshness:
    """How far the page can be trusted."""

    sentence: str
    stale: bool
    """Nobody is known to keep it up: there is no operator, or it hasn't looked at this spec."""
    written_at: str | None
    age_seconds: float | None
    operator: str | None = None
    """The holder of the operators' Lease."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Workers and jobs. None: not known."""

    replicas: int | None
    ready: int | None
    desired: int | None
    busy: int | None
    draining: int | None
    queued: int | None
    in_flight: int | None


@dataclass(frozen=True, slots=True)
class Step:
    """The number at one point of its way from the metrics to the size."""

    what: str
    replicas: int
    sentences: tuple[str, ...] = ()
    """What changed it here."""


@dataclass(frozen=True, slots=True)
class Decided:
    """The last decision."""

    reason: str
    message: str
    at: str | None
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class MetricLine:
    """One metric. ``value`` None: ``missing`` says why; ``replicas`` None: it asks for nothing."""

    type: str
    role: str
    value: float | None
    missing: str | None
    target: float | None
    replicas: int | None
    message: str
    at: str | None
    age_seconds: float | None


@dataclass(frozen=True, slots=True)
class Rules:
    """What the spec says about sizes, as it counts now."""

    min_replicas: int
    max_replicas: int
    schedule: str | None
    """The schedule whose bounds these are. None: the spec's own."""
    fixed_replicas: int | None
    """``spec.replicas``: a size by hand."""
    idle_seconds: int
    paused: str
    mode: str
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelLine:
    """One model of the preload list."""

    name: str
    ready: int
    total: int
    error: str | None


@dataclass(frozen=True, slots=True)
class GPULine:
    """The GPUs. None: not known."""

    utilization_percent: int | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    source: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that keeps the pool from what it should do."""

    condition: str
    reason: str
    message: str
    since: str | None
    advice: str | None
    """What to do about it."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The whole page."""

    namespace: str
    name: str
    summary: str
    freshness: Freshness
    sizes: Sizes
    decision: Decided | None
    rules: Rules | None
    """None: the spec can't be read."""
    metrics: tuple[MetricLine, ...]
    waits: tuple[str, ...]
    models: tuple[ModelLine, ...]
    gpu: GPULine | None
    problems: tuple[Problem, ...]

    def to_json(self) -> dict[str, Any]:
        """camelCase, every field there, null for what isn't known. Fields are only ever added."""
        plain: dict[str, Any] = _plain(self)
        return plain


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {to_camel(field.name): _plain(getattr(value, field.name)) for field in fields(value)}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
