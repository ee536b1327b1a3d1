"""How busy a pool's GPUs are: by its workers' reports, else by what DCGM's exporter left in Prometheus. Pure.

A worker's report names cards by their index, not by their host, so nobody can tell whether two workers see the same
card. Where each worker has a model server of its own, all of them are taken for different ones: utilisation is the
workers' mean, memory their sum (two pods on one time-sliced card count it twice). Where the workers share a server,
they are taken to see the same cards: the worker that sees most of them speaks for all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from llmpool_contract import WorkerReport
from llmpool_contract.report import GPUReport

from .decide.types import Missing
from .promql import Sample

_MIB = 2**20
STALE_S = 120.0
"""How old a sample of Prometheus may be: scrapes are up to a minute apart."""
GPUSample: TypeAlias = tuple[float, float]
"""(utilisation in percent, averaged over a pod's GPUs; Unix seconds of the sample)."""


@dataclass(frozen=True, slots=True)
class GPU:
    """All GPUs of a pool. What no card told is None."""

    utilization: float | None
    """Share of the time in which something ran, 0..1, averaged. Busy time, not load."""
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    source: Literal["workers", "prometheus"]
    at: float
    """Unix seconds of the oldest sample in it."""
    shared: bool
    """Whether these are the GPUs of a server that the workers share."""


@dataclass(frozen=True, slots=True)
class GPUReading:
    """What is known of the GPUs."""

    whole: GPU | Missing
    by_pod: Mapping[str, GPUSample]
    """The pods (workers are named as their pods are) that have GPUs of their own."""


@dataclass(frozen=True, slots=True)
class _Cards:
    """The cards of one pod or worker."""

    percent: float | None
    used: int | None
    total: int | None
    at: float


NO_GPU = GPUReading(Missing("no worker reports a GPU"), {})


def of_workers(reports: Mapping[str, WorkerReport], *, shared: bool, at: float, redis_ms: int) -> GPUReading | None:
    """What the fresh reports say of GPUs; None: nothing. ``redis_ms`` is ``at`` by Redis' clock, as reports have it."""
    cards = {
        worker: _of_cards(report.gpus, at - max(0, redis_ms - report.at_ms) / 1000)
        for worker, report in reports.items()
        if report.gpus
    }
    if not cards:
        return None
    if shared:
        speaker = max(cards.values(), key=lambda of: (of.total or 0, of.used or 0, of.percent or 0.0, of.at))
        return GPUReading(_whole([speaker], "workers", shared=True), {})
    return GPUReading(_whole(list(cards.values()), "workers", shared=False), _by_pod(cards))


def dcgm_query(namespace: str, pods: str) -> str:
    """One query for all readings of the pods whose names match; ``pods`` is a regular expression without quotes.

    The exporter's own labels are ``pod`` and ``namespace`` where Prometheus honours them, else ``exported_*``.
    GPU_UTIL says nothing of MIG's parts, and GR_ENGINE_ACTIVE isn't there on every card: the one or the other.
    """
    selectors = [
        f'{{namespace="{namespace}",pod=~"{pods}"}}',
        f'{{exported_namespace="{namespace}",exported_pod=~"{pods}"}}',
    ]
    by = "by (exported_pod, pod)"

    def either(form: str) -> str:
        return f"({' or '.join(form % selector for selector in selectors)})"

    busy, active = "DCGM_FI_DEV_GPU_UTIL%s", "DCGM_FI_PROF_GR_ENGINE_ACTIVE%s"
    readings = {
        "percent": f"avg {by} {either(busy)} or avg {by} (100 * {either(active)})",
        "at": f"min {by} {either(f'timestamp({busy})')} or min {by} {either(f'timestamp({active})')}",
        "used": f"sum {by} {either('DCGM_FI_DEV_FB_USED%s')}",
        "free": f"sum {by} {either('DCGM_FI_DEV_FB_FREE%s')}",
    }
    return " or ".join(f'label_replace({what}, "reading", "{name}", "", "")' for name, what in readings.items())


def of_samples(samples: Sequence[Sample], *, shared: bool, at: float) -> GPUReading:
    """What the answer to :func:`dcgm_query` says. ``at``: when it was asked for, Unix seconds by our own clock."""
    found: dict[str, dict[str, Sample]] = {}
    for sample in samples:
        pod = sample.labels.get("exported_pod") or sample.labels.get("pod")
        if pod and math.isfinite(sample.value) and sample.value >= 0:
            found.setdefault(pod, {})[sample.labels.get("reading", "")] = sample
    cards = {pod: of for pod, told in found.items() if (of := _of_told(told, at)) is not None}
    if not cards:
        return GPUReading(Missing("Prometheus knows no GPU of the pool"), {})
    return GPUReading(_whole(list(cards.values()), "prometheus", shared=shared), {} if shared else _by_pod(cards))


def _of_told(told: Mapping[str, Sample], at: float) -> _Cards | None:
    """One pod's readings. Without its time a sample may be minutes old, and says nothing."""
    if "at" not in told:
        return None
    age = max(0.0, told["at"].at - told["at"].value)  # both by Prometheus' clock
    if age > STALE_S:
        return None
    percent = told["percent"].value if "percent" in told and told["percent"].value <= 100 else None
    used = int(told["used"].value * _MIB) if "used" in told else None
    free = int(told["free"].value * _MIB) if "free" in told else None
    known = used is not None and free is not None
    return _Cards(percent, used if known else None, (used or 0) + (free or 0) if known else None, at - age)


def _of_cards(gpus: Sequence[GPUReport], at: float) -> _Cards:
    """Memory of those cards alone that tell both numbers, so that they fit together."""
    shares = [gpu.utilization for gpu in gpus if gpu.utilization is not None]
    memory = [
        (gpu.memory_used_bytes, gpu.memory_total_bytes)
        for gpu in gpus
        if gpu.memory_used_bytes is not None and gpu.memory_total_bytes is not None
    ]
    return _Cards(
        100 * math.fsum(shares) / len(shares) if shares else None,
        sum(used for used, _ in memory) if memory else None,
        sum(total for _, total in memory) if memory else None,
        at,
    )


def _whole(cards: Sequence[_Cards], source: Literal["workers", "prometheus"], *, shared: bool) -> GPU:
    percents = [of.percent for of in cards if of.percent is not None]
    used = [of.used for of in cards if of.used is not None]
    total = [of.total for of in cards if of.total is not None]
    return GPU(
        math.fsum(percents) / len(percents) / 100 if percents else None,
        sum(used) if used else None,
        sum(total) if total else None,
        source,
        min(of.at for of in cards),
        shared,
    )


def _by_pod(cards: Mapping[str, _Cards]) -> dict[str, GPUSample]:
    return {pod: (of.percent, of.at) for pod, of in cards.items() if of.percent is not None}
