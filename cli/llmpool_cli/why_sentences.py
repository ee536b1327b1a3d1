"""From a job's facts to sentences. Pure: the moment is that of the facts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from llmpool_client import JobFacts, JobStatus, Where, WorkersSeen
from llmpool_contract import WorkerReport
from llmpool_contract.mark import Note, WaitsFor

from .terminal import duration


def sentences(facts: JobFacts) -> list[str]:
    """What there is to say, the most telling first."""
    said = [f"Job {facts.id} in {facts.queue}: {facts.status}."]
    if facts.status.is_end:
        return [*said, *_end(facts), *_dead(facts)]
    said += _place(facts)
    said += _history(facts)
    said += _obstacles(facts)
    said += _dead(facts)
    if facts.workers is not None and facts.known:
        said += _workers(facts, facts.workers)
    return said


def _end(facts: JobFacts) -> Iterator[str]:
    if facts.error is not None:
        yield f"{facts.error.code}: {facts.error.message}"
    if facts.attempts:
        yield f"A model was asked {_count(facts.attempts, 'time')}" + (
            f"; worker {facts.answered_by} wrote the result." if facts.answered_by else "."
        )


def _dead(facts: JobFacts) -> Iterator[str]:
    if facts.dead_entry is not None:
        where = f"{facts.dead_entry} --queue {facts.queue}"
        yield f"It is a dead letter: llmpool dead show {where}; llmpool dead replay {where} runs it again."


def _place(facts: JobFacts) -> Iterator[str]:
    match facts.place.where:
        case Where.READY:
            yield from _ready(facts)
        case Where.DELAYED:
            yield _delayed(facts)
        case Where.CLAIMED:
            yield from _claimed(facts)
        case Where.BEYOND:
            seen = f"the first {facts.place.looked_at} entries of {facts.queue}, as far as one look goes"
            yield f"It is not among {seen}: if it is there, it stands beyond them."
        case Where.NOWHERE if facts.status is not JobStatus.UNKNOWN:
            yield "It is in no list at this moment: a worker has just taken it, or its list was deleted. Ask again."
        case Where.NOWHERE if facts.dead_entry is None:
            yield "There is no trace of it: never pushed, pushed to another queue, or ended and forgotten since."


def _ready(facts: JobFacts) -> Iterator[str]:
    priority, ahead = facts.place.priority, facts.place.ahead
    assert priority is not None
    assert ahead is not None  # both known of a ready job
    whole = facts.ready[priority]
    yield f"It is ready: number {ahead + 1} of {whole} in the {priority} list."
    before = {"high": 0, "normal": facts.ready["high"], "low": facts.ready["high"] + facts.ready["normal"]}[priority]
    if before:
        last = "; each eighth claim begins with the low list" if priority == "low" else ""
        yield f"{_count(before, 'job')} of higher priority {'goes' if before == 1 else 'go'} before its list{last}."


def _delayed(facts: JobFacts) -> str:
    due_ms = facts.place.due_ms
    assert due_ms is not None  # known of a delayed job
    if due_ms <= facts.now_ms:
        return f"It has been due for {_span(facts.now_ms - due_ms)}: the next worker of the queue makes it ready."
    others = f"; {_count(facts.place.ahead, 'job')} due before it" if facts.place.ahead else ""
    return f"Its next try is due in {_span(due_ms - facts.now_ms)}{others}."


def _claimed(facts: JobFacts) -> Iterator[str]:
    worker = "unknown" if facts.progress is None else facts.progress.worker or "unknown"
    end_ms = facts.place.lease_end_ms
    if end_ms is None:
        yield f"Worker {worker} holds it without a lease; the next worker that tends the queue gives it one."
    elif end_ms > facts.now_ms:
        yield f"Worker {worker} holds it; its lease ends in {_span(end_ms - facts.now_ms)} unless it is renewed."
    else:
        late = _span(facts.now_ms - end_ms)
        yield f"Worker {worker} held it, but its lease ended {late} ago: the next worker of the queue takes it back."
    if facts.workers is not None:
        report = facts.workers.report_of(worker)
        yield _reported(report) if report else f"{worker} does not report to pool {facts.workers.pool} (--pool)."


def _reported(report: WorkerReport) -> str:
    return (
        f"{report.worker} reports that it is {report.state}, with {report.in_flight} of {report.capacity} slots in use."
    )


def _history(facts: JobFacts) -> Iterator[str]:
    if facts.note is not None:
        yield _noted(facts.note, facts.now_ms)
        if facts.note.waits_for is not None:
            yield from _awaited(facts.note.waits_for, facts.now_ms)
    if facts.note_fault is not None:
        yield f"Its worker left a note that can't be read: {facts.note_fault}."
    if facts.attempts:
        yield f"{_count(facts.attempts, 'attempt')} of it failed so far."
    if facts.progress is None:
        return
    lost = facts.progress.deliveries - (facts.place.where is Where.CLAIMED)
    if lost > 0:
        claims = f"{_count(lost, 'claim')} of it ended with the death of a worker or its lease"
        yield f"{claims}; after MAX_DELIVERIES of those it is a dead letter."
    if facts.progress.first_claimed_ms is not None:
        yield f"It was first claimed {_span(facts.now_ms - facts.progress.first_claimed_ms)} ago."


def _noted(note: Note, now_ms: int) -> str:
    reason = f": {note.reason}" if note.reason else ""
    return f"Its last error, {_span(now_ms - note.at_ms)} ago: {note.code}{reason}"


def _awaited(awaited: WaitsFor, now_ms: int) -> Iterator[str]:
    if awaited.model is not None:
        yield f"It waits for model {awaited.model} to be loaded."
    if awaited.breaker is not None:
        probe = ""
        if awaited.until_ms is not None:
            left = awaited.until_ms - now_ms
            probe = f", whose next probe is {f'in {_span(left)}' if left > 0 else 'due'}"
        yield f"It waits for the circuit breaker of {awaited.breaker}{probe}."
    if awaited.retry_budget:
        yield "It waits for the pool's retry budget: too many of its jobs are retries."


def _obstacles(facts: JobFacts) -> Iterator[str]:
    if facts.cancel_wished:
        yield "It is to be cancelled: it will not be run again, and a running one is stopped."
    if facts.ask is None:
        return
    if facts.ask.fault is not None:
        yield f"No worker will run it, it becomes a dead letter: {facts.ask.fault}"
    if facts.model_passed_over_since_ms is not None:
        since = _span(facts.now_ms - facts.model_passed_over_since_ms)
        yield f"Jobs of its model {facts.ask.model} have been passed over for {since}: a loaded model's go first."
    if facts.ask.deadline_ms is not None:
        left = facts.ask.deadline_ms - facts.now_ms
        passed = f"passed {_span(-left)} ago: it expires when its turn comes"
        yield f"Its deadline {f'is in {_span(left)}' if left > 0 else passed}."


def _workers(facts: JobFacts, seen: WorkersSeen) -> Iterator[str]:
    if seen.stale:
        yield f"No longer reporting: {', '.join(seen.stale)}."
    if not seen.fresh:
        yield f"No worker of pool {seen.pool} (--pool) reports that it serves {facts.queue}."
        return
    states = Counter(report.state.value for report in seen.fresh)
    listed = ", ".join(f"{count} {state}" for state, count in states.items())
    used, slots = sum(r.in_flight for r in seen.fresh), sum(r.capacity for r in seen.fresh)
    serve = f"{_count(len(seen.fresh), 'worker')} of pool {seen.pool} serve{'s' if len(seen.fresh) == 1 else ''}"
    yield f"{serve} {facts.queue} ({listed}): {used} of {slots} slots in use."
    model = None if facts.ask is None else facts.ask.model
    if model is not None and facts.place.where is not Where.CLAIMED and _nowhere_loaded(model, seen):
        yield f"None of them has its model {model} loaded."


def _nowhere_loaded(model: str, seen: WorkersSeen) -> bool:
    """Only where all say what is loaded: missing is not none."""
    known = [report.resident_models for report in seen.fresh if report.resident_models is not None]
    loaded = {name.removesuffix(":latest") for names in known for name in names}
    return len(known) == len(seen.fresh) and model.removesuffix(":latest") not in loaded


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _span(ms: int) -> str:
    """Clocks of one Redis may step back: never below zero."""
    seconds = max(0, ms) / 1_000
    return f"{seconds:.1f}s" if seconds < 10 else duration(seconds)
