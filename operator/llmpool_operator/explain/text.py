"""An explanation as lines of text. A line carries a style, for terminals that have some."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from .page import Explanation, GPULine, MetricLine
from .times import ago

Style = Literal["plain", "title", "good", "bad", "dim"]
_HEADERS = ("METRIC", "ROLE", "READING", "TARGET", "ASKS FOR", "AS OF")
_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Line:
    """One line."""

    text: str
    style: Style = "plain"


def lines(page: Explanation) -> Iterator[Line]:
    """The whole page, one thought a line."""
    yield Line(f"{page.namespace}/{page.name} has {page.summary}", "title")
    if page.decision is not None:
        yield Line(f"{page.decision.reason}: {page.decision.message}")
    yield Line(page.freshness.sentence, "bad" if page.freshness.stale else "dim")
    yield from _problems(page)
    yield from _metrics(page.metrics)
    yield from _steps(page)
    yield from _list("Rules", page.rules.sentences if page.rules else ())
    yield from _list("Waits for", page.waits)
    yield from _models(page)
    if page.gpu is not None:
        yield from _list("GPU", [_gpu(page.gpu)])


def _title(text: str) -> Iterator[Line]:
    yield Line("")
    yield Line(text, "title")


def _list(title: str, sentences: Sequence[str]) -> Iterator[Line]:
    if sentences:
        yield from _title(title)
        yield from (Line(f"  {sentence}") for sentence in sentences)


def _problems(page: Explanation) -> Iterator[Line]:
    if not page.problems:
        return
    yield from _title("Problems")
    for problem in page.problems:
        since = f" (since {problem.since})" if problem.since else ""
        yield Line(f"  {problem.reason}: {problem.message}{since}", "bad")
        if problem.advice:
            yield Line(f"    what to do: {problem.advice}")


def _metrics(metrics: Sequence[MetricLine]) -> Iterator[Line]:
    if not metrics:
        return
    yield from _title("Metrics")
    rows = [_HEADERS, *(_row(metric) for metric in metrics)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(_HEADERS))]
    for index, row in enumerate(rows):
        text = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield Line(f"  {text}".rstrip(), "plain" if index else "dim")
    for metric in metrics:
        yield Line(f"  {metric.message}", "bad" if metric.missing is not None else "plain")


def _row(metric: MetricLine) -> tuple[str, ...]:
    reading = "missing" if metric.value is None else _number(metric.value)
    asks = "-" if metric.replicas is None else str(metric.replicas)
    read = "-" if metric.age_seconds is None else ago(metric.age_seconds)
    return metric.type, metric.role, reading, "-" if metric.target is None else _number(metric.target), asks, read


def _steps(page: Explanation) -> Iterator[Line]:
    if page.decision is None:
        return
    yield from _title("How the size came about")
    width = max(len(str(step.replicas)) for step in page.decision.steps)
    for step in page.decision.steps:
        yield Line(f"  {step.replicas:>{width}}  {step.what}")
        yield from (Line(f"  {'':>{width}}  {sentence}", "dim") for sentence in step.sentences)


def _models(page: Explanation) -> Iterator[Line]:
    if not page.models:
        return
    yield from _title("Models")
    for model in page.models:
        whole = model.total > 0 and model.ready == model.total
        error = f"  {model.error}" if model.error else ""
        style: Style = "bad" if model.error else "good" if whole else "plain"
        yield Line(f"  {model.name}  {model.ready}/{model.total} ready{error}", style)


def _gpu(gpu: GPULine) -> str:
    parts = [] if gpu.utilization_percent is None else [f"busy {gpu.utilization_percent} % of the time"]
    if gpu.memory_used_bytes is not None:
        total = "" if gpu.memory_total_bytes is None else f" of {gpu.memory_total_bytes / _GIB:.1f}"
        parts.append(f"{gpu.memory_used_bytes / _GIB:.1f}{total} GiB in use")
    source = "Prometheus" if gpu.source == "prometheus" else "the workers"
    return f"{', '.join(parts) or 'nothing is known'} (told by {source})"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.6g}"
