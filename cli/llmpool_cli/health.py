"""What a frame of `llmpool top` says about whether all is well. Pure, but for the printing at its end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import typer

from llmpool_client import QueueState

from .session import FAILED
from .terminal import duration, table
from .top.frame import Frame, PoolRow

Verdict = Literal["ok", "wrong", "unknown"]
OLD_S = 900.0
"""A job that has waited longer than this, s, is wrong: the alert LLMOldestJobTooOld has the same bound."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    verdict: Verdict
    what: str
    words: str


def findings(frame: Frame) -> list[Finding]:
    """All of them. A part that could not be seen is unknown; Redis out of reach is wrong."""
    return [*_redis(frame), *_workers(frame), *_queues(frame), *_pools(frame)]


def show(frame: Frame, output: str) -> None:
    """Print the findings, and end with status 1 where something is wrong."""
    found = findings(frame)
    if output == "json":
        typer.echo(json.dumps([asdict(one) for one in found]))
    else:
        table(("", "WHAT", "FOUND"), [(one.verdict, one.what, one.words) for one in found])
    if any(one.verdict == "wrong" for one in found):
        raise typer.Exit(FAILED)


def _redis(frame: Frame) -> Iterator[Finding]:
    if frame.queues is not None:
        yield Finding("ok", "Redis", "answers")
        return
    why = next((words for words in frame.missing if words.startswith("queues")), "not seen")
    yield Finding("wrong", "Redis", why.partition(": ")[2] or why)


def _workers(frame: Frame) -> Iterator[Finding]:
    if frame.workers is None:
        return
    fresh = frame.reports
    silent = [name for pool in frame.workers for name in pool.stale]
    busy = sum(bool(report.in_flight) for report in fresh)
    drains = sum(report.state != "ready" for report in fresh)
    yield Finding("ok", "workers", f"{len(fresh)} report, {busy} busy, {drains} starting or draining")
    if silent:
        yield Finding("unknown", "workers", f"silent: {', '.join(silent)}; gone, or cut off from Redis")
    for model in frame.models:
        if model.error:
            yield Finding("wrong", f"model {model.name}", model.error)


def _queues(frame: Frame) -> Iterator[Finding]:
    served = {queue for report in frame.reports for queue in report.queues}
    # A pool that is ready takes from its queues, if from zero only in a moment.
    served |= {queue for row in frame.pools or () if row.ready for queue in row.queues}
    for state in frame.queues or ():
        yield _queue(state, served=state.queue in served)


def _queue(state: QueueState, *, served: bool) -> Finding:
    waiting = state.ready + state.due
    words = f"{waiting} wait, {state.in_flight} in flight, {state.delayed} delayed, {state.dead} dead"
    what = f"queue {state.queue}"
    if waiting and not served:
        return Finding("wrong", what, f"{words}; no worker takes from it")
    if state.oldest_s is not None and state.oldest_s > OLD_S:
        return Finding("wrong", what, f"{words}; the oldest has waited {duration(state.oldest_s)}")
    return Finding("ok", what, words)


def _pools(frame: Frame) -> Iterator[Finding]:
    if frame.pools is None:
        unseen = (words.partition(": ")[2] for words in frame.missing if words.startswith("pools: "))
        yield from (Finding("unknown", "pools", words) for words in unseen)
        return
    yield from (_pool(row) for row in frame.pools)


def _pool(row: PoolRow) -> Finding:
    told = f"{_text(row.replicas)} workers, {_text(row.desired)} wanted, {row.reason or 'no status yet'}"
    verdict: Verdict = "wrong" if row.ready is False else "unknown" if row.ready is None else "ok"
    hint = f"; llmpool explain {row.name} -n {row.namespace}" if verdict == "wrong" else ""
    return Finding(verdict, f"pool {row.pool}", told + hint)


def _text(value: int | None) -> str:
    return "-" if value is None else str(value)
