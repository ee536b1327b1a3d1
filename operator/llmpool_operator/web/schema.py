"""What the page's JSON holds: ``/api/v1/state``, and the ``data`` of each event of ``/api/v1/events``.

Fields are only ever added. A reading is a number, or says why there is none; missing is never zero.
"""

from __future__ import annotations

from typing import Any, TypeAlias, TypedDict

from llmpool_operator.decide.types import Missing


class MissingReading(TypedDict):
    """A reading that couldn't be had."""

    missing: str


Reading: TypeAlias = int | float | MissingReading
Part: TypeAlias = dict[str, Any]
"""A part of a status, in its own words (docs/operator.md)."""

MAX_NAME = 256
"""Characters of a name that somebody else chose."""
MAX_SENTENCE = 512


def missing(reason: str) -> MissingReading:
    """Why there is no reading, in words that anybody may see."""
    return {"missing": text(reason)}


def reading(value: float | Missing | None, why: str = "not known") -> Reading:
    """A number, or why there is none."""
    if isinstance(value, Missing):
        return missing(value.reason)
    return missing(why) if value is None else value


def text(words: str, longest: int = MAX_SENTENCE) -> str:
    """Others' words: bounded, and without characters that aren't seen or turn the others around."""
    shown = words if words.isprintable() else "".join(c if c.isprintable() else " " for c in words)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


class Ready(TypedDict):
    """The condition Ready, or that nobody has told it yet."""

    status: str
    reason: str


class Row(TypedDict):
    """One pool in a line."""

    namespace: str
    name: str
    ready: Ready
    mode: str
    paused: str
    size: Reading
    """Workers that are there."""
    readyWorkers: Reading
    desired: Reading
    busy: Reading
    draining: Reading
    queued: Reading
    inFlight: Reading
    delayed: Reading
    """Jobs that wait for their time, whether it has come or not."""
    dead: Reading
    gpuPercent: Reading
    tokensPerSecond: Reading
    reason: str
    """Of the last decision, or of what failed in its place; empty: there was none."""
    message: str
    trouble: bool
    source: str
    """``turn``: this process decides the pool. ``status``: what the pool's object says, which another one wrote."""


class QueueRow(TypedDict):
    """One queue of a pool."""

    name: str
    ready: Reading
    due: Reading
    delayed: Reading
    inFlight: Reading
    dead: Reading


class GPURow(TypedDict):
    """One GPU of a worker."""

    name: str
    percent: Reading
    memoryUsedBytes: Reading
    memoryTotalBytes: Reading


class WorkerRow(TypedDict):
    """One worker as it says of itself."""

    worker: str
    state: str
    leaving: bool
    """Whether it is told to drain."""
    inFlight: int
    capacity: int
    done: int
    jobsPerSecond: Reading
    tokensPerSecond: Reading
    models: list[str] | MissingReading
    gpus: list[GPURow] | MissingReading


class Workers(TypedDict):
    """The first of them by name, and how many there are."""

    total: int
    rows: list[WorkerRow]


class DecisionRow(TypedDict):
    """A decision that differs from the one before it. Sizes None: not known."""

    namespace: str
    name: str
    at: float
    before: int | None
    after: int | None
    desired: int | None
    reason: str
    message: str
    queued: Reading
    inFlight: Reading
    trouble: bool


class LetterRow(TypedDict):
    """One dead letter. Never its body."""

    entry: str
    id: str
    code: str
    reason: str
    at: float | None
    """Unix seconds by Redis' clock. None: it doesn't say."""
    attempts: int | None


class QueueLetters(TypedDict):
    """The newest dead letters of one queue."""

    queue: str
    count: Reading
    letters: list[LetterRow] | MissingReading


class Detail(TypedDict):
    """All about one pool."""

    namespace: str
    name: str
    at: float | None
    """Unix seconds of the turn. None: there was none in this process."""
    status: Part
    """``decision``, ``metrics``, ``bounds``, ``waits``, ``gpu``, ``models`` as a pool's status has them."""
    conditions: list[Part]
    queues: list[QueueRow]
    workers: Workers | MissingReading
    decisions: list[DecisionRow]
    letters: list[QueueLetters]


class Operator(TypedDict):
    """Who says all this, and how far it can be trusted."""

    version: str
    role: str
    """``leader`` or ``standby``."""
    leader: str
    """Who holds the Lease; empty: nobody, or not known."""
    namespace: str
    """``*``: all."""
    at: float
    """Unix seconds."""
    quietSeconds: float
    """Since the last part of a round ended, or the last look at the Lease."""
    stalled: bool
