"""What has become of a pool's preload list, by what its workers say. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmpool_contract import WorkerReport, WorkerState
from llmpool_contract.models import folded
from llmpool_contract.report import ModelReport

from .decide.types import Finding, Missing

_LONGEST_ERROR = 200


@dataclass(frozen=True, slots=True)
class ModelState:
    """One model of the preload list."""

    name: str
    """As the list has it."""
    ready: int
    """Workers whose server holds it."""
    total: int
    """Workers that should hold it: those with a fresh report that don't end."""
    error: str | None = None
    """Why it failed, where it did: what most of the workers say. A code and words of the worker's own."""


def model_states(preload: Sequence[str], reports: Mapping[str, WorkerReport]) -> tuple[ModelState, ...]:
    """One state for each model, in the list's order. A worker that hasn't heard of a new list isn't ready yet."""
    staying = [r for r in reports.values() if r.state in (WorkerState.STARTING, WorkerState.READY)]
    told = [{folded(model.name): model for model in report.models or ()} for report in staying]
    return tuple(_state(name, [of.get(folded(name)) for of in told]) for name in preload)


def models_ready(preload: Sequence[str], reports: Mapping[str, WorkerReport] | Missing) -> Finding:
    """The condition ModelsReady."""
    if not preload:
        return Finding("ModelsReady", "True", "NothingToPreload", "spec.models.preload is empty")
    if isinstance(reports, Missing):
        return Finding("ModelsReady", "Unknown", "ReportsMissing", f"the workers can't be heard: {reports.reason}")
    states = model_states(preload, reports)
    if states[0].total == 0:
        return Finding("ModelsReady", "Unknown", "NoWorkers", "no worker that could hold a model has reported")
    if failed := [state for state in states if state.error is not None]:
        words = "; ".join(f"{state.name} {state.ready}/{state.total}: {state.error}" for state in failed)
        return Finding("ModelsReady", "False", "ModelFailed", words)
    if waiting := [state for state in states if state.ready < state.total]:
        words = ", ".join(f"{state.name} {state.ready}/{state.total}" for state in waiting)
        return Finding("ModelsReady", "False", "Loading", f"not everywhere in memory: {words}")
    return Finding("ModelsReady", "True", "AllReady", f"{len(states)} in the memory of {states[0].total} workers")


def _state(name: str, told: Sequence[ModelReport | None]) -> ModelState:
    ready = sum(model is not None and model.state == "ready" for model in told)
    errors = Counter(_words(model.error) for model in told if model is not None and model.state == "failed")
    # The most frequent; of equals the first by the alphabet, so that the status doesn't change without a reason.
    error = min(errors, key=lambda text: (-errors[text], text)) if errors else None
    return ModelState(name, ready, len(told), error)


def _words(error: str | None) -> str:
    """Bounded and printable: it comes from Redis, and goes into a status."""
    text = "".join(char if char.isprintable() else " " for char in error or "failed, without a reason")
    return text if len(text) <= _LONGEST_ERROR else text[: _LONGEST_ERROR - 1] + "…"
