"""The simulated queue and workers: hand-computed cases, and what holds whatever happens."""

import math
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmpool_cli.simulate.policies import Terms, simulate
from llmpool_cli.simulate.record import Record
from llmpool_cli.simulate.terms import PeerTerms, WorkerTerms
from llmpool_cli.simulate.trace import Trace
from llmpool_cli.simulate.world import World

from .support.simulated import POLICIES, Fixed, policy_of, spec_of, trace_of, worker_of


def run(policy: Any, trace: Trace, worker: WorkerTerms | None = None, seed: int = 1) -> Record:
    return simulate(policy, trace, Terms(spec_of(), worker or worker_of(), PeerTerms(), seed))


def test_a_job_alone_takes_prefill_and_decode() -> None:
    """1000 tokens in at 500/s and 100 out at 50/s are four seconds, from an arrival to the end."""
    trace = Trace("t", 0.0, 10.0, [3.0], [1000], [100], [""])
    record = run(Fixed(1), trace, worker_of(prefill=500.0, decode_alone=50.0, decode=150.0))
    assert (record.started[0], record.ended[0]) == (3.0, 7.0)


def test_jobs_share_a_worker_once_it_gives_all_it_can() -> None:
    """At full rate for two, four jobs of 4 s take 8 s each; of two unequal ones, none slows the other."""
    four = run(Fixed(1), trace_of([(0, 4.0)] * 4))
    assert list(four.ended) == pytest.approx([8.0] * 4)
    two = run(Fixed(1), trace_of([(0, 4.0), (0, 1.0)]))
    assert list(two.ended) == pytest.approx([4.0, 1.0])


def test_a_job_that_comes_later_slows_those_that_run() -> None:
    """Rate for two, three jobs: 2 s at full speed, then 2/3 of it while three are there.

    A and B need 4 s. C comes at 2 and needs 1: it ends 1.5 s later, when A and B have 1 s left.
    """
    record = run(Fixed(1), trace_of([(0, 4.0), (0, 4.0), (2, 1.0)]))
    assert list(record.ended) == pytest.approx([4.5, 4.5, 3.5])


def test_waiting_for_a_slot() -> None:
    """With one slot three jobs of 2 s begin one after the other, in the order of their arrival."""
    record = run(Fixed(1), trace_of([(0, 2.0), (0.5, 2.0), (1, 2.0)]), worker_of(concurrency=1))
    assert list(record.started) == pytest.approx([0.0, 2.0, 4.0])
    assert record.order == [0, 1, 2]


def test_start_and_load_come_before_the_first_job() -> None:
    """A worker takes jobs after its start-up, and runs the first once its model is loaded."""
    worker = worker_of(startup=20.0, load=10.0)
    record = run(Fixed(0, [(5.0, lambda world: world.start(1))]), trace_of([(0, 1.0), (0, 1.0)]), worker)
    assert list(record.started) == [35.0, 35.0]


def test_another_model_waits_until_what_runs_has_ended() -> None:
    """A swap is a barrier: b, claimed at 4, is loaded when the first job is done; what comes after waits for it."""
    worker = worker_of(load=3.0)
    record = run(Fixed(1), trace_of([(0, 10.0), (4, 2.0), (4, 5.0)], ["a", "b", "a"]), worker)
    assert list(record.started) == pytest.approx([3.0, 16.0, 21.0])


def test_resident_models_pass_the_head_for_a_quantum() -> None:
    """Jobs of the model that was loaded last go first, until it has had its quantum: then the head has its turn."""
    jobs = [(0.0, 4.0), (1.0, 1.0), *((1.0, 4.0) for _ in range(10))]
    models = ["a", "b", *["a"] * 10]
    worker = worker_of(concurrency=1, load=2.0, quantum=10.0)
    record = run(Fixed(1), trace_of(jobs, models), worker)
    # Slots come free at 6, 10 and 14; at 14 the load is 12 s ago.
    assert record.started[1] == pytest.approx(16.0)
    assert [record.started[n] for n in (2, 3)] == pytest.approx([6.0, 10.0])


def test_two_models_in_memory_need_no_swap() -> None:
    """A worker that holds two models loads each once, whatever the order of the jobs."""
    jobs = [(float(10 * n), 1.0) for n in range(6)]
    worker = worker_of(load=2.0, models_in_memory=2)
    record = run(Fixed(1), trace_of(jobs, ["a", "b"] * 3), worker)
    waits = [start - at for start, (at, _) in zip(record.started, jobs, strict=True)]
    assert waits == pytest.approx([2.0, 2.0, 0.0, 0.0, 0.0, 0.0])


def test_a_worker_that_leaves_finishes_and_costs_until_then() -> None:
    """Asked at 1 with a job until 4: it claims no more, is gone at 4, and has cost 4 seconds."""

    def leave(world: World) -> None:
        world.ask_to_leave(world.workers[0], 100.0, world.lose)

    record = run(Fixed(1, [(1.0, leave), (6.0, lambda world: world.start(1))]), trace_of([(0, 4.0), (2, 1.0)]))
    assert list(record.ended) == pytest.approx([4.0, 7.0])
    assert record.worker_seconds == pytest.approx(4.0 + 1.0)
    assert record.cuts == 0


@pytest.mark.parametrize(
    ("back", "again"), [("lose", 3.0 + 30.0), ("give_back", 3.0)], ids=["after its lease", "given back at once"]
)
def test_what_outlives_the_deadline_is_cut_and_runs_again(back: str, again: float) -> None:
    """A job cut at 3 begins again from nothing when it is back; its first wait is the one that counts."""

    def leave(world: World) -> None:
        world.ask_to_leave(world.workers[0], 3.0, getattr(world, back))
        world.start(1)

    record = run(Fixed(1, [(1.0, leave)]), trace_of([(0, 5.0)]))
    assert (record.cuts, record.runs[0], record.started[0]) == (1, 2, 0.0)
    assert record.ended[0] == pytest.approx(again + 5.0)


def test_a_drain_taken_back_loses_nothing() -> None:
    """A worker that stays after all goes on with its job, claims the next, and outlives the old deadline."""

    def leave(world: World) -> None:
        world.ask_to_leave(world.workers[0], 3.0, world.lose)

    script = [(1.0, leave), (2.0, lambda world: world.take_back(world.workers[0]))]
    record = run(Fixed(1, script), trace_of([(0, 5.0), (1.5, 1.0)]))
    assert (list(record.started), record.cuts) == ([0.0, 2.0], 0)
    assert list(record.ended) == pytest.approx([5.0, 3.0])


def test_a_claim_that_waits_for_a_swap_goes_back_and_what_runs_goes_on() -> None:
    """Asked to leave while b waits for a's end: b is in the queue at once, and a still ends when it would have."""

    def leave(world: World) -> None:
        world.ask_to_leave(world.workers[0], 100.0, world.lose)
        world.start(1)

    record = run(Fixed(1, [(2.0, leave)]), trace_of([(0, 5.0), (1, 1.0)], ["a", "b"]))
    assert (list(record.started), list(record.ended)) == ([0.0, 2.0], [5.0, 3.0])
    assert record.cuts == 0


def test_a_run_that_never_ends_is_given_up() -> None:
    """Without a worker the run ends six hours after its trace, and says that nothing began."""
    record = run(Fixed(0), trace_of([(0, 1.0)]))
    assert (record.ended_jobs, math.isnan(record.started[0])) == (0, True)
    assert record.finished_at == pytest.approx(6 * 3600.0, abs=2)


JOBS = st.lists(
    st.tuples(st.floats(0, 400), st.floats(0, 90)).map(lambda job: (round(job[0], 3), round(job[1], 3))),
    min_size=1,
    max_size=60,
)
WORKERS = st.builds(
    worker_of,
    concurrency=st.integers(1, 6),
    startup=st.sampled_from([0.0, 5.0, 40.0]),
    startup_jitter=st.sampled_from([0.0, 0.5]),
    load=st.sampled_from([0.0, 10.0]),
    models_in_memory=st.integers(1, 2),
    quantum=st.sampled_from([0.0, 20.0]),
    lease=st.sampled_from([0.0, 30.0]),
    drain=st.just(100_000.0),
)
SCALING = st.builds(
    lambda low, more, idle, behavior: {
        "minReplicas": low,
        "maxReplicas": max(low + more, 1),
        "idleSeconds": idle,
        **behavior,
    },
    st.integers(0, 2),
    st.integers(0, 8),
    st.sampled_from([0, 30]),
    st.sampled_from([{}, {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}}]),
)


def watched(
    name: str, trace: Trace, worker: WorkerTerms, scaling: dict[str, Any], grace: float
) -> tuple[Record, float]:
    """Run a policy, look at the world before each event; the record, and the workers summed over time."""
    world = World(trace, worker, 1)
    random = Random(7)
    policy_of(name, spec_of(**scaling), PeerTerms(grace=grace)).begin(world, lambda period: random.uniform(0, period))
    step, area, before = world.clock.step, 0.0, 0.0

    def watched_step() -> None:
        nonlocal area, before
        area += len(world.workers) * (world.clock.next - before)
        before = world.clock.next
        step()
        claimed = sum(worker.in_flight for worker in world.workers)
        assert world.in_flight == claimed
        assert all(len(worker.running) <= worker.terms.concurrency for worker in world.workers)
        assert not (len(world.waiting) and any(worker.has_room for worker in world.workers)), "a slot is idle"
        assert world.intended <= scaling["maxReplicas"]

    world.clock.step = watched_step  # type: ignore[method-assign]
    world.clock.every(1.0, 0.0, lambda _: world.look())
    record = world.run()
    return record, area + len(world.workers) * (record.finished_at - before)


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=25, deadline=None)
@given(jobs=JOBS, worker=WORKERS, scaling=SCALING, grace=st.sampled_from([0.0, 5.0, 60.0]), models=st.integers(1, 3))
def test_conservation(name: str, jobs: Any, worker: WorkerTerms, scaling: Any, grace: float, models: int) -> None:
    """Each job ends once; it began once, and once more for each cut; no slot idles beside a waiting job; what the
    workers cost is their number summed over time. The pool itself cuts nothing that is shorter than its drain."""
    jobs = sorted(jobs)
    trace = trace_of(jobs, [f"m{n * n % 7 % models}" for n in range(len(jobs))])
    record, area = watched(name, trace, worker, scaling, grace)
    assert record.ended_jobs == len(jobs)
    assert sum(record.runs) == len(jobs) + record.cuts
    for (at, alone), started, ended in zip(jobs, record.started, record.ended, strict=True):
        assert at <= started
        assert ended >= started + alone - 1e-3
    assert record.worker_seconds == pytest.approx(area)
    assert name != "pool" or record.cuts == 0
    if models == 1 and worker.load == 0:  # a claim waits for its load, while others pass it elsewhere
        first_runs = [record.started[n] for n in range(len(jobs))]
        assert record.cuts or first_runs == sorted(first_runs), "first in, first out"


@pytest.mark.parametrize("name", POLICIES)
def test_the_same_seed_gives_the_same_record(name: str) -> None:
    """Two runs with one seed agree in every job and second; another seed's start-up times differ."""
    random = Random(3)
    trace = trace_of(sorted((random.uniform(0, 300), random.uniform(1, 20)) for _ in range(200)))
    worker = worker_of(startup=20.0, startup_jitter=0.5)
    one, same, other = (run(policy_of(name, spec_of()), trace, worker, seed) for seed in (1, 1, 2))
    assert one == same
    assert list(one.started) != list(other.started)
