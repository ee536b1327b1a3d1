"""What a pool's workers say of themselves, and what they are told: the two hashes of a pool, as Redis answers them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from llmpool_contract import WorkerReport
from llmpool_contract.config import PoolConfig

from .decide.types import Missing
from .targets.base import Workers


class PoolMemory:
    """The last answers of one pool and what they were read as: what hasn't changed isn't parsed again."""

    __slots__ = ("_config", "_config_reply", "_reports")

    def __init__(self) -> None:
        self._reports: dict[bytes, tuple[bytes, WorkerReport | None]] = {}
        self._config_reply: Sequence[bytes] = ()
        self._config: PoolConfig | Missing = PoolConfig()

    def fresh(self, reply: Sequence[bytes], now_ms: int) -> dict[str, WorkerReport]:
        """The fresh reports by worker, of what HGETALL answered: names and values by turns."""
        before, self._reports = self._reports, {}
        for name, raw in zip(reply[::2], reply[1::2], strict=True):
            known = before.get(name)
            self._reports[name] = known if known is not None and known[0] == raw else (raw, _of_worker(name, raw))
        reports = (report for _, report in self._reports.values())
        return {report.worker: report for report in reports if report is not None and report.is_fresh(now_ms)}

    def config(self, reply: Sequence[bytes], shown: str) -> PoolConfig | Missing:
        """What the workers are told."""
        if reply != self._config_reply:
            self._config_reply, self._config = reply, _config_of(reply, shown)
        return self._config


def parse_report(raw: bytes | str) -> WorkerReport | None:
    """A worker's report, or None for what isn't one."""
    try:
        return WorkerReport.model_validate_json(raw)
    except ValidationError:  # somebody else's writing, or a future worker's: as good as no report
        return None


def workers_of(reports: Mapping[str, WorkerReport]) -> Workers:
    """The fresh reports, added up."""
    return Workers(
        reporting=len(reports),
        busy=sum(report.in_flight > 0 for report in reports.values()),
        in_flight=sum(report.in_flight for report in reports.values()),
        capacity=sum(report.capacity for report in reports.values()),
    )


def rate_of(reports: Mapping[str, WorkerReport]) -> float | Missing:
    """Jobs per second of one busy worker, all its slots together: the mean of the busy ones that tell.

    One that is busy with its first job tells 0, which counts; if all do, nobody knows how long a job takes.
    """
    told = [of.jobs_per_second for of in reports.values() if of.in_flight > 0 and of.jobs_per_second is not None]
    if not told:
        return Missing("no busy worker has told its rate")
    mean = math.fsum(told) / len(told)
    return mean if mean > 0 else Missing("no busy worker has finished a job yet")


def _of_worker(name: bytes, raw: bytes) -> WorkerReport | None:
    """A report under another worker's name is nobody's: drains go by the name."""
    report = parse_report(raw)
    return report if report is not None and report.worker.encode() == name else None


def _config_of(reply: Sequence[bytes], shown: str) -> PoolConfig | Missing:
    try:
        fields = {name.decode(): value.decode() for name, value in zip(reply[::2], reply[1::2], strict=True)}
        return PoolConfig.from_hash(fields)
    except (ValidationError, UnicodeDecodeError):
        return Missing(f"PoolConfigUnreadable at {shown}")
