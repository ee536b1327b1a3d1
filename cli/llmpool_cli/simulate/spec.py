"""The pool that is simulated: from a file, with options in place of some of its fields."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from llmpool_contract.labels import API_VERSION, KIND
from llmpool_contract.pool import LLMWorkerPoolSpec, PoolError, load_pool, parse_pool
from llmpool_operator.decide import fault_in_schedules

_SIMULATED = ("QueueDepth", "DrainTime")
_DEFAULT: dict[str, Any] = {
    "apiVersion": API_VERSION,
    "kind": KIND,
    "metadata": {"name": "simulated"},
    "spec": {"queues": [{"name": "llm-chat"}], "redis": {"url": "redis://localhost"}},
}


class SpecError(ValueError):
    """A pool that can't be simulated. The message names the field, what was given and what is allowed."""


def read_spec(
    file: Path | None, scaling: dict[str, Any], worker: dict[str, Any]
) -> tuple[LLMWorkerPoolSpec, list[str]]:
    """The file's spec (None: a pool of defaults), and what of it is left out.

    Args:
        file: a pool's YAML.
        scaling: fields of ``spec.scaling`` by their names in YAML; None: not given. ``averageValue`` stands for the
            one metric QueueDepth with that target.
        worker: fields of ``spec.worker``, likewise.

    Raises:
        SpecError: not a pool, or one with a metric that isn't simulated.
    """
    try:
        document = _document(file)
        spec = document["spec"]
        given = {field: value for field, value in scaling.items() if value is not None}
        if (average := given.pop("averageValue", None)) is not None:
            given["metrics"] = [{"type": "QueueDepth", "queueDepth": {"averageValue": average}}]
        spec["scaling"] = {**spec.get("scaling", {}), **given}
        changed = {field: value for field, value in worker.items() if value is not None}
        spec["worker"] = {**spec.get("worker", {}), **changed}
        # A drain that is given, for what-if: the job's own limit isn't simulated, and mustn't stand in its way.
        if "drainSeconds" in changed:
            timeout = spec["worker"].get("timeoutSeconds", changed["drainSeconds"])
            spec["worker"]["timeoutSeconds"] = min(timeout, changed["drainSeconds"])
        left_out = _leave_out(spec)
        pool = parse_pool(document).spec
    except PoolError as error:
        raise SpecError(str(error)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"can't be read: {error}") from None
    if fault := fault_in_schedules(pool.scaling):
        raise SpecError(f"spec.{fault}")
    return pool, left_out


def _document(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {**_DEFAULT, "spec": dict(_DEFAULT["spec"])}
    pool = load_pool(file.read_text(encoding="utf-8"))
    return pool.model_dump(by_alias=True, exclude_none=True)


def _leave_out(spec: dict[str, Any]) -> list[str]:
    """Take out what only forbids and can't be simulated; refuse what asks for a size and can't."""
    metrics = spec["scaling"].get("metrics", [])
    for index, metric in enumerate(metrics):
        if metric["type"] not in _SIMULATED and metric.get("role", "Target") == "Target":
            allowed = " and ".join(_SIMULATED)
            raise SpecError(f"spec.scaling.metrics[{index}].type: got {metric['type']}, simulated are {allowed}")
    kept = [metric for metric in metrics if metric["type"] in _SIMULATED]
    if metrics:
        spec["scaling"]["metrics"] = kept
    spec.pop("mode", None)
    spec.pop("target", None)
    return ["scaling.metrics: the Ceiling, GPUs aren't simulated"] if len(kept) < len(metrics) else []


def queue_target(spec: LLMWorkerPoolSpec) -> Fraction:
    """What one worker should have of the queue, for the peers: QueueDepth's averageValue, else its default of 5."""
    for metric in spec.scaling.metrics:
        if metric.queue_depth is not None:
            return Fraction(metric.queue_depth.average_value)
    return Fraction(5)
