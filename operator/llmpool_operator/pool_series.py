"""Series of single pools: plain numbers while the loop turns, Prometheus' families only when somebody asks.

With thousands of pools a gauge object for each series would cost some tens of MB, and a look-up for each turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from llmpool_contract.pool import LLMWorkerPoolSpec

from .decide.types import MetricProposal, Missing
from .explain import findings
from .store import Key
from .targets.base import Size, Turn

LABELS = ("namespace", "pool")
_GAUGES = (
    ("llm_operator_replicas", "Workers asked for", "asked"),
    ("llm_operator_current_replicas", "Workers that are there, ready or not", "existing"),
    ("llm_operator_ready_replicas", "Workers ready", "ready"),
    ("llm_operator_draining_replicas", "Workers that finish what they run and then go", "draining"),
    ("llm_operator_desired_replicas", "Workers that the metrics ask for", "desired"),
    ("llm_operator_min_replicas", "The least that the bounds allow now, by spec or schedule", "lower"),
    ("llm_operator_max_replicas", "The most that the bounds allow now, by spec or schedule", "upper"),
)
_QUEUES = "llm_operator_queue_jobs"
_QUEUES_HELP = "Jobs as the last turn read them: ready, due (delayed until now), in_flight"
_CONDITIONS = "llm_operator_pool_condition"
_CONDITIONS_HELP = "A condition of the pool as of the last turn: 1 True, 0 False; no series: Unknown"
_AGE = "llm_operator_metric_age_seconds"
_AGE_HELP = "Since a metric of this type was last read, or first missed, seconds; of several the longest"


@dataclass(slots=True)
class PoolSeries:
    """One pool's numbers. None: not known yet."""

    asked: int | None = None
    existing: int | None = None
    ready: int | None = None
    draining: int | None = None
    desired: int | None = None
    lower: int | None = None
    upper: int | None = None
    last: tuple[Turn, LLMWorkerPoolSpec | None] | None = None
    """What queues and conditions are told from, when somebody asks: most turns change nothing in them."""
    read_at: dict[tuple[int, str], float] = field(default_factory=dict)
    """(Place in the spec, type) of each metric that has a say in the size now -> Unix seconds of its last sample, or of
    the first decision that missed it."""
    decided_at: float | None = None

    def take(self, turn: Turn, spec: LLMWorkerPoolSpec | None = None) -> float | None:
        """Take up a turn. Gives the seconds since the pool's last decision, if this turn has one and that had been."""
        self.last = turn, spec
        if isinstance(turn.size, Size):
            self.asked = turn.size.intended if turn.resized is None else turn.resized[1]
            self.existing, self.ready, self.draining = turn.size.existing, turn.size.ready, turn.draining
        else:
            self.asked = self.existing = self.ready = self.draining = None
            self.desired = self.lower = self.upper = None
        if turn.decision is None:
            return None
        self.desired = turn.decision.desired
        self.lower, self.upper = turn.decision.bounds.lower, turn.decision.bounds.upper
        self.read_at = {  # anew, so that a metric that the spec has no more has no age
            (place, metric.type): self._read_at(place, metric, turn.at)
            for place, metric in enumerate(turn.decision.metrics)
            if metric.asks
        }
        before, self.decided_at = self.decided_at, turn.at
        return None if before is None or turn.at < before else turn.at - before  # less: the clock was set back

    def _read_at(self, place: int, metric: MetricProposal, at: float) -> float:
        if isinstance(metric.value, Missing):
            return self.read_at.get((place, metric.type), at)
        return at - (metric.age or 0.0)

    def queues(self) -> Iterator[tuple[str, str, int]]:
        """(queue, state, jobs) of the last turn, of queues that could be read."""
        read = {} if self.last is None else self.last[0].sighting.observation.queues
        for queue, backlog in read.items():
            if not isinstance(backlog, Missing):
                yield queue, "ready", backlog.ready
                yield queue, "due", backlog.due
                yield queue, "in_flight", backlog.in_flight

    def conditions(self) -> dict[str, int]:
        """Condition -> 1 or 0, as the status has them; what is Unknown isn't there."""
        found = {} if self.last is None else {finding.type: finding.status for finding in findings(*self.last)}
        return {kind: int(status == "True") for kind, status in found.items() if status != "Unknown"}

    def oldest(self) -> dict[str, float]:
        """Metric type -> Unix seconds of its last sample; of several of a type the one that is the longest ago."""
        found: dict[str, float] = {}
        for (_, kind), at in self.read_at.items():
            found[kind] = min(at, found.get(kind, at))
        return found


class PoolCollector(Collector):
    """All pools' series. ``clock`` gives Unix seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pools: dict[Key, PoolSeries] = {}

    def of(self, key: Key) -> PoolSeries:
        """A pool's numbers, to be fed."""
        series = self._pools.get(key)
        if series is None:
            series = self._pools[key] = PoolSeries()
        return series

    def forget(self, key: Key) -> None:
        """A pool is gone."""
        self._pools.pop(key, None)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The families without their samples."""
        for name, text, _ in _GAUGES:
            yield GaugeMetricFamily(name, text, labels=LABELS)
        yield GaugeMetricFamily(_AGE, _AGE_HELP, labels=(*LABELS, "type"))
        yield GaugeMetricFamily(_QUEUES, _QUEUES_HELP, labels=(*LABELS, "queue", "state"))
        yield GaugeMetricFamily(_CONDITIONS, _CONDITIONS_HELP, labels=(*LABELS, "condition"))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The families, from a copy: the loop goes on while a thread renders."""
        pools = list(self._pools.items())
        for name, text, number in _GAUGES:
            family = GaugeMetricFamily(name, text, labels=LABELS)
            for key, series in pools:
                if (value := getattr(series, number)) is not None:
                    family.add_metric(key, value)
            yield family
        yield self._ages(pools)
        yield _queues(pools)
        yield _conditions(pools)

    def _ages(self, pools: list[tuple[Key, PoolSeries]]) -> GaugeMetricFamily:
        now = self._clock()
        family = GaugeMetricFamily(_AGE, _AGE_HELP, labels=(*LABELS, "type"))
        for key, series in pools:
            for kind, at in series.oldest().items():
                family.add_metric((*key, kind), max(0.0, now - at))
        return family


def _queues(pools: list[tuple[Key, PoolSeries]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(_QUEUES, _QUEUES_HELP, labels=(*LABELS, "queue", "state"))
    for key, series in pools:
        for queue, state, jobs in series.queues():
            family.add_metric((*key, queue, state), jobs)
    return family


def _conditions(pools: list[tuple[Key, PoolSeries]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(_CONDITIONS, _CONDITIONS_HELP, labels=(*LABELS, "condition"))
    for key, series in pools:
        for condition, value in series.conditions().items():
            family.add_metric((*key, condition), value)
    return family
