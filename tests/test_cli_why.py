"""``llmpool why``: facts as sentences, each where it is true and only there."""

import json
from dataclasses import replace

import pytest
from redis import Redis
from typer.testing import CliRunner
from typer.testing import Result as Outcome

from llmpool_cli.main import app
from llmpool_cli.why_sentences import sentences
from llmpool_client import Ask, JobFacts, JobStatus, Place, Progress, Where, WorkersSeen
from llmpool_contract import JobError, WorkerReport, WorkerState
from llmpool_contract.mark import Note, WaitsFor
from tests.support.worker_process import chat_job

NOW = 1_760_000_000_000
READY = JobFacts(
    id="7",
    queue="llm-chat",
    now_ms=NOW,
    status=JobStatus.QUEUED,
    place=Place(Where.READY, priority="normal", ahead=0),
    progress=Progress(size=99, deliveries=0, first_claimed_ms=None, worker=None),
    ready={"high": 0, "normal": 1, "low": 0},
    ask=Ask(type="chat", model="big"),
    note=None,
    note_fault=None,
    cancel_wished=False,
    model_passed_over_since_ms=None,
    attempts=0,
    error=None,
    answered_by=None,
    dead_entry=None,
    workers=None,
)
RUNNING = replace(
    READY,
    status=JobStatus.RUNNING,
    place=Place(Where.CLAIMED, priority="normal", lease_end_ms=NOW + 23_000),
    progress=Progress(size=99, deliveries=1, first_claimed_ms=NOW - 12_000, worker="w1"),
)
DELAYED = replace(RUNNING, status=JobStatus.WAITING, place=Place(Where.DELAYED, ahead=0, due_ms=NOW + 1_400))
DELAYED = replace(DELAYED, progress=Progress(size=99, deliveries=0, first_claimed_ms=NOW - 12_000, worker=None))
BUSY = Note(code="backend_busy", reason="503", at_ms=NOW - 3_000, due_ms=NOW + 1_400, attempts=1)
NOWHERE = replace(READY, place=Place(Where.NOWHERE), ask=None, progress=None, attempts=None)


def report(worker: str = "w1", state: WorkerState = WorkerState.READY, **fields: object) -> WorkerReport:
    given = {"worker": worker, "pool": "a/b", "state": state, "at_ms": NOW, "in_flight": 3, "capacity": 5}
    return WorkerReport.model_validate(given | {"queues": ["llm-chat"]} | fields)


def seen(*reports: WorkerReport, stale: tuple[str, ...] = ()) -> WorkersSeen:
    return WorkersSeen("a/b", reports, stale)


def llmpool(redis_url: str, *args: str) -> Outcome:
    return CliRunner().invoke(app, args, env={"REDIS_URL": redis_url, "COLUMNS": "200"})


SAID: dict[str, tuple[JobFacts, list[str]]] = {
    "first": (READY, ["It is ready: number 1 of 1 in the normal list."]),
    "behind high": (
        replace(READY, ready={"high": 1, "normal": 4, "low": 9}, place=Place(Where.READY, 0, "normal", 2)),
        [
            "It is ready: number 3 of 4 in the normal list.",
            "1 job of higher priority goes before its list.",
        ],
    ),
    "low": (
        replace(READY, ready={"high": 1, "normal": 4, "low": 1}, place=Place(Where.READY, 0, "low", 0)),
        [
            "It is ready: number 1 of 1 in the low list.",
            "5 jobs of higher priority go before its list; each eighth claim begins with the low list.",
        ],
    ),
    "passed over": (
        replace(READY, model_passed_over_since_ms=NOW - 12_000),
        [
            "It is ready: number 1 of 1 in the normal list.",
            "Jobs of its model big have been passed over for 12s: a loaded model's go first.",
        ],
    ),
    "deadline ahead": (
        replace(READY, ask=Ask(model="big", deadline_ms=NOW + 185_000)),
        ["It is ready: number 1 of 1 in the normal list.", "Its deadline is in 3m05s."],
    ),
    "deadline passed": (
        replace(READY, ask=Ask(model="big", deadline_ms=NOW - 500)),
        [
            "It is ready: number 1 of 1 in the normal list.",
            "Its deadline passed 0.5s ago: it expires when its turn comes.",
        ],
    ),
    "bad body": (
        replace(READY, ask=Ask(fault="model: missing")),
        [
            "It is ready: number 1 of 1 in the normal list.",
            "No worker will run it, it becomes a dead letter: model: missing",
        ],
    ),
    "running": (
        RUNNING,
        ["Worker w1 holds it; its lease ends in 23s unless it is renewed.", "It was first claimed 12s ago."],
    ),
    "lease ended": (
        replace(RUNNING, place=Place(Where.CLAIMED, lease_end_ms=NOW - 5_000), cancel_wished=True),
        [
            "Worker w1 held it, but its lease ended 5.0s ago: the next worker of the queue takes it back.",
            "It was first claimed 12s ago.",
            "It is to be cancelled: it will not be run again, and a running one is stopped.",
        ],
    ),
    "no lease, third delivery": (
        replace(
            RUNNING,
            place=Place(Where.CLAIMED),
            progress=Progress(size=9, deliveries=3, first_claimed_ms=None, worker=None),
        ),
        [
            "Worker unknown holds it without a lease; the next worker that tends the queue gives it one.",
            "2 claims of it ended with the death of a worker or its lease; "
            "after MAX_DELIVERIES of those it is a dead letter.",
        ],
    ),
    "retry": (
        replace(DELAYED, note=BUSY, attempts=1),
        [
            "Its next try is due in 1.4s.",
            "Its last error, 3.0s ago: backend_busy: 503",
            "1 attempt of it failed so far.",
            "It was first claimed 12s ago.",
        ],
    ),
    "breaker": (
        replace(DELAYED, note=BUSY.model_copy(update={"waits_for": WaitsFor(breaker="big", until_ms=NOW + 30_000)})),
        [
            "Its next try is due in 1.4s.",
            "Its last error, 3.0s ago: backend_busy: 503",
            "It waits for the circuit breaker of big, whose next probe is in 30s.",
            "It was first claimed 12s ago.",
        ],
    ),
    "model, and others due before it": (
        replace(
            DELAYED,
            place=Place(Where.DELAYED, ahead=2, due_ms=NOW + 1_400),
            note=Note(code="backend_busy", at_ms=NOW, waits_for=WaitsFor(model="big")),
        ),
        [
            "Its next try is due in 1.4s; 2 jobs due before it.",
            "Its last error, 0.0s ago: backend_busy",
            "It waits for model big to be loaded.",
            "It was first claimed 12s ago.",
        ],
    ),
    "budget, overdue": (
        replace(
            DELAYED,
            place=Place(Where.DELAYED, ahead=2, due_ms=NOW - 4_000),
            note=Note(code="timeout", at_ms=NOW + 9, waits_for=WaitsFor(retry_budget=True)),
        ),
        [
            "It has been due for 4.0s: the next worker of the queue makes it ready.",
            "Its last error, 0.0s ago: timeout",
            "It waits for the pool's retry budget: too many of its jobs are retries.",
            "It was first claimed 12s ago.",
        ],
    ),
    "bad note": (
        replace(DELAYED, note_fault="at_ms: Field required"),
        [
            "Its next try is due in 1.4s.",
            "Its worker left a note that can't be read: at_ms: Field required.",
            "It was first claimed 12s ago.",
        ],
    ),
    "beyond": (
        replace(NOWHERE, place=Place(Where.BEYOND, 10_000)),
        [
            "It is not among the first 10000 entries of llm-chat, as far as one look goes: "
            "if it is there, it stands beyond them."
        ],
    ),
    "in between": (
        NOWHERE,
        ["It is in no list at this moment: a worker has just taken it, or its list was deleted. Ask again."],
    ),
    "unknown": (
        replace(NOWHERE, status=JobStatus.UNKNOWN, workers=seen()),
        ["There is no trace of it: never pushed, pushed to another queue, or ended and forgotten since."],
    ),
    "lapsed, dead letter": (
        replace(NOWHERE, status=JobStatus.UNKNOWN, dead_entry="5-0"),
        [
            "It is a dead letter: llmpool dead show 5-0 --queue llm-chat; "
            "llmpool dead replay 5-0 --queue llm-chat runs it again."
        ],
    ),
    "failed": (
        replace(
            NOWHERE,
            status=JobStatus.FAILED,
            error=JobError(code="timeout", message="WORKER_TIMEOUT ran out"),
            attempts=2,
            answered_by="w1",
            dead_entry="5-0",
        ),
        [
            "timeout: WORKER_TIMEOUT ran out",
            "A model was asked 2 times; worker w1 wrote the result.",
            "It is a dead letter: llmpool dead show 5-0 --queue llm-chat; "
            "llmpool dead replay 5-0 --queue llm-chat runs it again.",
        ],
    ),
    "cancelled before it ran": (replace(NOWHERE, status=JobStatus.CANCELLED, attempts=0), []),
}


@pytest.mark.parametrize(("facts", "said"), SAID.values(), ids=SAID)
def test_sentences(facts: JobFacts, said: list[str]) -> None:
    """Each fact has its sentence, and where there is no fact there is none."""
    assert sentences(facts) == [f"Job 7 in llm-chat: {facts.status}.", *said]


@pytest.mark.parametrize(
    ("workers", "said"),
    [
        (seen(), ["No worker of pool a/b (--pool) reports that it serves llm-chat."]),
        (
            seen(stale=("w8", "w9")),
            ["No longer reporting: w8, w9.", "No worker of pool a/b (--pool) reports that it serves llm-chat."],
        ),
        (seen(report()), ["1 worker of pool a/b serves llm-chat (1 ready): 3 of 5 slots in use."]),
        (
            seen(report(), report("w2", WorkerState.DRAINING)),
            ["2 workers of pool a/b serve llm-chat (1 ready, 1 draining): 6 of 10 slots in use."],
        ),
        (
            seen(report(resident_models=["small"]), report(resident_models=[])),
            [
                "2 workers of pool a/b serve llm-chat (2 ready): 6 of 10 slots in use.",
                "None of them has its model big loaded.",
            ],
        ),
        (
            seen(report(resident_models=["big:latest"])),
            ["1 worker of pool a/b serves llm-chat (1 ready): 3 of 5 slots in use."],
        ),
        (
            seen(report(resident_models=["small"]), report()),
            ["2 workers of pool a/b serve llm-chat (2 ready): 6 of 10 slots in use."],
        ),
    ],
    ids=["none", "stale", "one", "draining", "not loaded", "loaded", "one doesn't say"],
)
def test_what_the_workers_say(workers: WorkersSeen, said: list[str]) -> None:
    """Slots and states of those that serve the queue; a model counts as not loaded only where all say what is."""
    assert sentences(replace(READY, workers=workers))[2:] == said


@pytest.mark.parametrize(
    ("workers", "said"),
    [
        (seen(report()), "w1 reports that it is ready, with 3 of 5 slots in use."),
        (seen(report("w2")), "w1 does not report to pool a/b (--pool)."),
    ],
    ids=["reports", "silent"],
)
def test_the_holder_s_own_report(workers: WorkersSeen, said: str) -> None:
    """Of a running job it is told whether its worker still reports."""
    assert sentences(replace(RUNNING, workers=workers))[2] == said


def test_why_in_a_terminal(redis_url: str) -> None:
    """The command prints one sentence per line and never the prompt."""
    with Redis.from_url(redis_url) as redis:
        redis.rpush("llm-chat", chat_job("other"), chat_job("mine", text="geheim"))
    done = llmpool(redis_url, "why", "mine", "--pool", "a/b")
    assert (done.exit_code, done.stdout.splitlines()) == (
        0,
        [
            "Job mine in llm-chat: queued.",
            "It is ready: number 2 of 2 in the normal list.",
            "No worker of pool a/b (--pool) reports that it serves llm-chat.",
        ],
    )


def test_why_as_json(redis_url: str) -> None:
    """-o json has the facts and the sentences, and no prompt."""
    with Redis.from_url(redis_url) as redis:
        redis.rpush("{q}:low", chat_job("mine", text="geheim"))
    done = llmpool(redis_url, "why", "mine", "-q", "q", "-o", "json")
    facts = json.loads(done.stdout)
    assert (facts["status"], facts["place"]["where"], facts["place"]["ahead"]) == ("queued", "ready", 0)
    assert facts["ask"]["model"] == "gemma3:270m"
    assert facts["sentences"][0] == "Job mine in q: queued."
    assert "geheim" not in done.stdout


def test_why_of_an_unknown_job(redis_url: str) -> None:
    """No trace: exit status 1; a pool's name that can't be: 2."""
    assert llmpool(redis_url, "why", "nobody").exit_code == 1
    wrong = llmpool(redis_url, "why", "nobody", "--pool", "x")
    assert (wrong.exit_code, "namespace/name" in wrong.stderr) == (2, True)
