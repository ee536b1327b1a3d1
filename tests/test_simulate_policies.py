"""The policies of the simulator: HPA's and KEDA's arithmetic, and the operator's own decisions."""

from fractions import Fraction
from typing import Any

import pytest

from llmpool_cli.simulate import pool
from llmpool_cli.simulate.hpa import HpaRules
from llmpool_cli.simulate.keda import KedaPolicy
from llmpool_cli.simulate.policies import Terms, simulate
from llmpool_cli.simulate.record import Record
from llmpool_cli.simulate.terms import PeerTerms, WorkerTerms
from llmpool_cli.simulate.trace import Trace
from llmpool_operator.decide.types import Missing

from .support.simulated import POLICIES, policy_of, spec_of, trace_of, worker_of

ARRIVAL = 100.0
STEP = trace_of([(ARRIVAL, 1.0)] * 320)
"""Work for 64 workers at five jobs each, all at once."""


def run(name: str, trace: Trace, *, worker: WorkerTerms, peers: PeerTerms, seed: int = 1, **scaling: Any) -> Record:
    spec = spec_of(**scaling)
    return simulate(policy_of(name, spec, peers), trace, Terms(spec, worker, peers, seed))


@pytest.mark.parametrize(
    ("name", "soonest", "latest"),
    [("pool", 0, 2), ("hpa", 60, 75), ("keda", 60, 105)],
    ids=["pool within 2 s", "hpa 15 + 4 x 15 s", "keda 30 + 15 + 4 x 15 s"],
)
def test_from_zero_to_64(name: str, soonest: float, latest: float) -> None:
    """A step from 0 to work for 64: HPA needs five syncs (4, 8, 16, 32, 64), KEDA a poll before them. Any phase."""
    found = []
    for seed in range(1, 21):
        peers = PeerTerms(hpa_zero=True, hpa_lag=0)
        worker = worker_of(startup=130.0, startup_jitter=0.0)  # so that nothing leaves the queue meanwhile
        record = run(name, STEP, worker=worker, peers=peers, seed=seed, maxReplicas=64)
        found.append(next(second.at for second in record.seconds if second.intended == 64) - ARRIVAL)
    assert soonest <= min(found)
    assert max(found) <= latest + 1  # looked at once a second


def test_a_late_metric_is_added_to_hpa_s_time() -> None:
    """With a metric that is 30 s behind, HPA asks for 64 exactly 30 s later, to the sync."""

    def asked(lag: float) -> float:
        peers = PeerTerms(hpa_zero=True, hpa_lag=lag)
        record = run("hpa", STEP, worker=worker_of(startup=200.0), peers=peers, maxReplicas=64)
        return next(second.at for second in record.seconds if second.intended == 64)

    assert asked(30.0) - asked(0.0) == 30.0


SIZES = {
    "0 to 4 at most": (0, 320, 4),
    "1 to 4 at most": (1, 320, 4),
    "3 to 6 at most": (3, 320, 6),
    "by the metric": (10, 71, 15),
    "maxReplicas": (40, 10_000, 64),
    "within tolerance above": (10, 55, 10),
    "outside tolerance": (10, 56, 12),
    "within tolerance below": (10, 45, 10),
    "down waits for its window": (10, 0, 10),
    "above max, past all rules": (70, 0, 64),
}


@pytest.mark.parametrize(("current", "value", "size"), SIZES.values(), ids=list(SIZES))
def test_hpa_without_behavior(current: int, value: int, size: int) -> None:
    """One sync at five jobs a pod, without a behavior: twice the size or 4 at most, no limit down but the window."""
    rules = HpaRules(spec_of(maxReplicas=64).scaling, Fraction(5), 0)
    assert rules.size(current, value, 0.0) == size


def test_hpa_without_behavior_shrinks_to_the_highest_of_five_minutes() -> None:
    """Down to the highest proposal of 300 s, at once when that is over; and up to it, where a step cut it short."""
    rules = HpaRules(spec_of(maxReplicas=64).scaling, Fraction(5), 1)
    assert rules.size(10, 50, 0.0) == 10
    assert rules.size(10, 20, 15.0) == 10
    assert rules.size(10, 5, 300.0) == 10, "the first proposal is 300 s old, and counts"
    assert rules.size(10, 5, 300.5) == 4
    assert rules.size(4, 5, 316.0) == 1
    rules = HpaRules(spec_of(maxReplicas=64).scaling, Fraction(5), 1)
    assert rules.size(1, 50, 0.0) == 4
    assert rules.size(4, 20, 15.0) == 8, "10 was proposed, and without a behavior that still counts"


def test_a_pool_s_behavior_counts_for_hpa() -> None:
    """With a behavior, even an empty one, HPA's newer rules hold: from 1 to 5 at most, and an envelope of proposals."""
    rules = HpaRules(spec_of(maxReplicas=64, behavior={}).scaling, Fraction(5), 1)
    assert rules.size(1, 320, 0.0) == 5
    assert rules.size(5, 320, 1.0) == 5, "four pods within 15 s"
    assert rules.size(5, 20, 15.0) == 5, "not up again, against the newest proposal"


def test_hpa_keeps_one_before_1_37() -> None:
    """With minReplicas 0 HPA has one pod for ever, unless it may go to zero."""
    trace = trace_of([(0.0, 1.0)], span=2000.0)
    ends = [
        run("hpa", trace, worker=worker_of(), peers=PeerTerms(hpa_zero=zero)).seconds[-1].intended
        for zero in (False, True)
    ]
    assert ends == [1, 0]


@pytest.mark.parametrize(("in_flight", "cut"), [(False, True), (True, False)], ids=["LLEN alone", "in flight too"])
def test_keda_goes_to_zero_beside_running_jobs(in_flight: bool, cut: bool) -> None:
    """A list is empty while its last jobs run: after the cooldown KEDA ends their worker, and what needs longer than
    the grace is cut. Counted as well, they keep it."""
    trace = trace_of([(0.0, 600.0)])
    peers = PeerTerms(count_in_flight=in_flight)
    record = run("keda", trace, worker=worker_of(drain=1000.0), peers=peers)
    assert (record.cuts > 0) == cut
    assert record.ended_jobs == (0 if cut else 1), "a job that outlasts cooldown and grace begins anew for ever"


def test_keda_cools_down_after_the_last_poll_that_saw_a_job() -> None:
    """One short job: KEDA goes to zero at the first poll that is more than 300 s after the one that saw it."""
    policy = KedaPolicy(spec_of().scaling, Fraction(5), PeerTerms())
    spec = spec_of()
    trace = trace_of([(0.0, 1.0)], span=1000.0)
    worker = worker_of()
    record = simulate(policy, trace, Terms(spec, worker, PeerTerms(), 4))
    up = [second.at for second in record.seconds if second.intended == 1]
    assert 330.0 - 1 <= up[-1] - up[0] + 1 <= 330.0 + 1, "eleven polls"
    assert (record.ups, record.downs) == (1, 1)


def test_a_scale_in_cuts_where_the_grace_is_short_and_not_in_the_pool() -> None:
    """Jobs of a minute at ten workers, then few: the peers end the youngest, busy or not; the pool the idle ones."""
    jobs = sorted([(float(n % 40), 40.0) for n in range(50)] + [(60.0 + 30 * n, 60.0) for n in range(20)])
    cuts = {
        name: run(name, trace_of(jobs), worker=worker_of(concurrency=5), peers=PeerTerms(grace=1.0)).cuts
        for name in POLICIES
    }
    assert cuts["pool"] == 0
    assert cuts["hpa"] > 0
    assert cuts["keda"] > 0


def test_the_pool_goes_to_zero_after_its_idle_seconds() -> None:
    """The last job's end begins idleSeconds of known emptiness; then there is nobody, and the next job wakes one."""
    trace = trace_of([(0.0, 10.0), (500.0, 1.0)], span=510.0)
    record = run("pool", trace, worker=worker_of(), peers=PeerTerms(), idleSeconds=60)
    sizes = {round(second.at): second.intended for second in record.seconds}
    assert (sizes[69], sizes[73], sizes[499], sizes[502]) == (1, 0, 0, 1)
    assert record.started[1] - 500.0 <= 1.0, "a tick, and these workers start at once"


def test_a_shrinking_pool_ends_the_idle_and_takes_drains_back() -> None:
    """Of two workers that drain, one is idle and gone at once, the other takes part again when a burst comes."""
    spec = spec_of(behavior={"scaleDown": {"stabilizationWindowSeconds": 0}}, minReplicas=1, maxReplicas=4)
    jobs = [(0.0, 2.0)] * 15 + [(4.0, 60.0)] * 2 + [(30.0, 1.0)] * 15
    worker = worker_of(concurrency=5, drain=600.0)
    record = simulate(policy_of("pool", spec), trace_of(jobs), Terms(spec, worker, PeerTerms(), 1))
    assert record.cuts == 0
    assert any(second.replicas > second.intended for second in record.seconds), "one drains"
    assert record.ended_jobs == len(jobs)


def test_drain_time_is_fed_with_the_simulated_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool that sizes by DrainTime is told jobs per second of a busy worker: 1/2 for jobs of 2 s, one at a time;
    while none has ended the rate is missing, not zero."""
    rates: list[float | Missing] = []
    monkeypatch.setattr(pool, "turn_at_once", lambda engine, sighting, now: rates.append(sighting.observation.rate))
    spec = spec_of(minReplicas=1, metrics=[{"type": "DrainTime", "drainTime": {"seconds": 60}}])
    worker = worker_of(concurrency=1)
    simulate(policy_of("pool", spec), trace_of([(0.0, 2.0)] * 60), Terms(spec, worker, PeerTerms(), 1))
    assert isinstance(rates[0], Missing)
    assert rates[-1] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("paused", ["ScaleOut", "All"])
def test_a_paused_pool_does_not_grow(paused: str) -> None:
    """What the spec forbids, the simulated pool doesn't do either: the engine is the operator's own."""
    spec = spec_of(minReplicas=1).model_copy(update={"paused": paused})
    record = simulate(policy_of("pool", spec), trace_of([(0.0, 5.0)] * 50), Terms(spec, worker_of(), PeerTerms(), 1))
    assert (record.peak, record.ended_jobs) == (1, 50)
