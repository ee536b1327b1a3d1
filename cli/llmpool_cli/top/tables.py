"""A frame as tables of text. Pure. What isn't known is ``-``, never 0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from llmpool_cli.terminal import duration
from llmpool_client import PoolWorkers, QueueState
from llmpool_contract import WorkerReport

from .frame import Frame, ModelRow, PoolRow

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """One part of the screen."""

    title: str
    headers: Row
    rows: tuple[Row, ...]
    numeric: frozenset[int]
    """Columns whose cells stand to the right."""


def summary(frame: Frame, *, now: float) -> str:
    """The line at the top."""
    reports = frame.reports
    parts = [
        "workers " + (_known(None if frame.workers is None else len(reports))),
        "busy " + _known(None if frame.workers is None else sum(bool(report.in_flight) for report in reports)),
        "waiting " + _known(None if frame.queues is None else sum(queue.ready + queue.due for queue in frame.queues)),
        "in flight " + _known(None if frame.queues is None else sum(queue.in_flight for queue in frame.queues)),
        "dead " + _known(None if frame.queues is None else sum(queue.dead for queue in frame.queues)),
        f"tokens/s {_number(frame.tokens_per_second)}",
    ]
    age = now - frame.at
    return "  ".join(parts) + (f"  STALE for {duration(age)}" if age > _STALE_AFTER else "")


_STALE_AFTER = 5.0


def tables(frame: Frame, *, now: float, words: str = "") -> list[Table]:
    """All parts that could be seen. ``words``: only rows in which they stand, in any case."""
    made = []
    if frame.pools is not None:
        made.append(_table("Pools", POOLS, [_pool(row) for row in frame.pools]))
    if frame.queues is not None:
        made.append(_table("Queues", QUEUES, [_queue(state) for state in frame.queues]))
    if frame.workers is not None:
        made.append(_table("Workers", WORKERS, [row for pool in frame.workers for row in _workers(pool)]))
        made.append(_table("Models", MODELS, [_model(row) for row in frame.models]))
    if frame.pools:
        made.append(_table("Decisions", DECISIONS, [_decision(row, now) for row in _latest(frame.pools)]))
    return [_filtered(table, words) for table in made]


POOLS = ("POOL", "READY", "REPLICAS", "DESIRED", "BUSY", "QUEUED", "GPU %")
QUEUES = ("QUEUE", "READY", "DUE", "DELAYED", "IN FLIGHT", "DEAD", "OLDEST")
WORKERS = ("WORKER", "POOL", "STATE", "JOBS", "JOBS/S", "TOKENS/S", "CPU", "MB", "GPU %", "IN MEMORY")
MODELS = ("MODEL", "IN MEMORY", "PRELOADED", "ERROR")
DECISIONS = ("POOL", "AGO", "LAST DECISION")
_NUMERIC = frozenset(
    {"REPLICAS", "DESIRED", "BUSY", "QUEUED", "GPU %", "DUE", "DELAYED", "IN FLIGHT", "DEAD", "JOBS", "JOBS/S"}
    | {"TOKENS/S", "CPU", "MB", "OLDEST", "AGO"}
)


def to_json(frame: Frame) -> dict[str, Any]:
    """For programs: null for what isn't known."""
    return {
        "at": frame.at,
        "missing": list(frame.missing),
        "pools": None if frame.pools is None else [asdict(row) for row in frame.pools],
        "queues": None if frame.queues is None else [asdict(state) for state in frame.queues],
        "workers": None
        if frame.workers is None
        else [report.model_dump(mode="json") for pool in frame.workers for report in pool.fresh],
        "silentWorkers": None
        if frame.workers is None
        else [{"pool": pool.pool, "worker": name} for pool in frame.workers for name in pool.stale],
        "models": None if frame.workers is None else [asdict(row) for row in frame.models],
    }


def as_text(frame: Frame, *, now: float, width: int) -> str:
    """One plain frame, lines no longer than ``width``."""
    lines = [summary(frame, now=now), *(f"not seen: {words}" for words in frame.missing)]
    for table in tables(frame, now=now):
        lines += ["", table.title, *_aligned(table)]
    return "\n".join(line[:width].rstrip() for line in lines)


def _table(title: str, headers: Row, rows: list[Row]) -> Table:
    right = {n for n, header in enumerate(headers) if header in _NUMERIC or (title == "Queues" and header == "READY")}
    return Table(title, headers, tuple(rows), frozenset(right))


def _filtered(table: Table, words: str) -> Table:
    wanted = words.casefold()
    rows = tuple(row for row in table.rows if wanted in " ".join(row).casefold())
    return Table(table.title, table.headers, rows, table.numeric)


def _aligned(table: Table) -> list[str]:
    if not table.rows:
        return ["(none)"]
    lines = [table.headers, *table.rows]
    widths = [max(len(line[n]) for line in lines) for n in range(len(table.headers))]
    put: Callable[[int, str], str] = lambda n, cell: (  # noqa: E731 - a line of a table
        cell.rjust(widths[n]) if n in table.numeric else cell.ljust(widths[n])
    )
    return ["  ".join(put(n, cell) for n, cell in enumerate(line)) for line in lines]


def _pool(row: PoolRow) -> Row:
    known = (row.replicas, row.desired, row.busy, row.queued, row.gpu_percent)
    return (row.pool, row.reason or "-", *(_known(value) for value in known))


def _queue(state: QueueState) -> Row:
    counts = (state.ready, state.due, state.delayed, state.in_flight, state.dead)
    return (state.queue, *(str(count) for count in counts), duration(state.oldest_s))


def _workers(pool: PoolWorkers) -> list[Row]:
    told = [_worker(pool.pool, report) for report in pool.fresh]
    return told + [(name, pool.pool, "silent", *["-"] * (len(WORKERS) - 3)) for name in pool.stale]


def _worker(pool: str, report: WorkerReport) -> Row:
    busy = [gpu.utilization for gpu in report.gpus or () if gpu.utilization is not None]
    return (
        report.worker,
        pool,
        report.state.value,
        f"{report.in_flight}/{report.capacity}",
        _number(report.jobs_per_second),
        _number(report.tokens_per_second),
        _number(report.cpu, 2),
        _known(None if report.memory_bytes is None else round(report.memory_bytes / 1e6)),
        _known(round(100 * sum(busy) / len(busy)) if busy else None),
        "-" if report.resident_models is None else ", ".join(report.resident_models) or "none",
    )


def _model(row: ModelRow) -> Row:
    preloaded = f"{row.ready}/{row.wanted}" if row.wanted else "-"
    return (row.name, f"{row.resident} workers", preloaded, row.error or "")


def _latest(pools: tuple[PoolRow, ...]) -> list[PoolRow]:
    decided = [row for row in pools if row.decision is not None]
    return sorted(decided, key=lambda row: -(row.decided_at or 0))[:10]


def _decision(row: PoolRow, now: float) -> Row:
    ago = None if row.decided_at is None else max(0.0, now - row.decided_at)
    return (row.pool, duration(ago), row.decision or "")


def _known(value: int | None) -> str:
    return "-" if value is None else str(value)


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
