"""Parts of a status that tell why the size is what it is. Every list and string in them is bounded. Pure."""

from __future__ import annotations

from fractions import Fraction
from itertools import zip_longest
from typing import Any, TypeAlias

from llmpool_contract.pool import LLMWorkerPoolSpec

from .conditions import MAX_MESSAGE, timestamp
from .decide.types import Bounds, Decision, MetricProposal, Missing
from .gpu import GPU
from .models import ModelState
from .targets.base import Turn

Part: TypeAlias = dict[str, Any]
MAX_SENTENCE = 512
"""Characters of a metric's message, a limit, something that is waited for, or a model's error."""
MAX_SENTENCES = 16
_LARGEST = 10**15
"""Whole numbers up to here survive the JSON of any client."""


def reasons(decision: Decision, spec: LLMWorkerPoolSpec | None, *, at: float) -> Part:
    """The decision: its numbers on their way, and what each metric had to do with them."""
    roles = [metric.role for metric in spec.scaling.metrics] if spec is not None else []
    return {
        "message": decision.message[:MAX_MESSAGE],
        "decision": {
            "at": timestamp(at),
            "desired": decision.desired,
            "stabilized": decision.stabilized,
            "replicas": decision.replicas,
            "reason": str(decision.reason),
            "message": decision.message[:MAX_MESSAGE],
            "limits": [limit[:MAX_SENTENCE] for limit in decision.limits[:MAX_SENTENCES]],
        },
        "metrics": [_metric(metric, role, at) for metric, role in zip_longest(decision.metrics, roles) if metric],
        **_bounds(decision.bounds, spec),
    }


def _bounds(bounds: Bounds, spec: LLMWorkerPoolSpec | None) -> Part:
    """Those of a schedule; the spec has its own."""
    if not bounds.source.startswith("schedules["):
        return {}
    source = bounds.source
    schedules = spec.scaling.schedules if spec is not None else []
    for index, schedule in enumerate(schedules):
        if source == f"schedules[{index}]":
            source = f"{source}: {schedule.cron} {schedule.timezone}"
            break
    return {
        "bounds": {"minReplicas": bounds.lower, "maxReplicas": bounds.upper, "schedule": source[:MAX_SENTENCE]},
    }


def _metric(metric: MetricProposal, role: str | None, at: float) -> Part:
    part: Part = {"type": metric.type, "role": role or "Target", "target": _number(metric.target)}
    if isinstance(metric.value, Missing):
        part["missing"] = metric.value.reason[:MAX_SENTENCE]
    else:
        part["value"] = _number(metric.value)
        part["at"] = timestamp(at - (metric.age or 0.0))
    if metric.replicas is not None:
        part["replicas"] = metric.replicas
    return {**part, "message": metric.message[:MAX_SENTENCE]}


def waiting(turn: Turn) -> Part:
    """What the operator waits for, and how many workers are on their way out."""
    part: Part = {"draining": turn.draining} if not isinstance(turn.size, Missing) else {}
    if turn.waits:
        part["waits"] = [sentence[:MAX_SENTENCE] for sentence in turn.waits[:MAX_SENTENCES]]
    return part


def gpu(seen: GPU | Missing) -> Part:
    """What is known of the GPUs; nothing where nothing is. Utilisation in whole percent, for the column."""
    if isinstance(seen, Missing):
        return {}
    known = {
        "utilization": None if seen.utilization is None else round(seen.utilization * 100),
        "memoryUsedBytes": seen.memory_used_bytes,
        "memoryTotalBytes": seen.memory_total_bytes,
    }
    return {"gpu": {**{key: value for key, value in known.items() if value is not None}, "source": seen.source}}


def preloaded(states: tuple[ModelState, ...] | None) -> Part:
    """Each model of the preload list. None: no report can be read."""
    return {"models": [_model(state) for state in states]} if states else {}


def _model(state: ModelState) -> Part:
    error = {} if state.error is None else {"error": state.error[:MAX_SENTENCE]}
    return {"name": state.name, "ready": state.ready, "total": state.total, **error}


def _number(value: Fraction) -> int | float:
    """As JSON has it: whole where it is, else six digits."""
    bounded = max(min(value, Fraction(_LARGEST)), Fraction(-_LARGEST))
    return bounded.numerator if bounded.denominator == 1 else float(f"{float(bounded):.6g}")
