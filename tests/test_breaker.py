"""The circuit breaker: as a state machine against a plain model of it, and its registry of servers and models."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from llmpool_worker.breaker import Breaker, Permit
from llmpool_worker.breaker_types import JITTER, BreakerRules, Open, Outcome, State
from llmpool_worker.breakers import SERVER_OPEN_S, Breakers, CallPermit, Counts, Key
from llmpool_worker.windows import BUCKETS, SlidingCounts

RULES = BreakerRules(threshold=3, open_s=60.0, open_max_s=200.0, window_s=60.0, min_calls=6, slow_call_s=10.0)
SERVER, MODEL = "http://ollama:11434", "m:latest"


def breaker(rules: BreakerRules = RULES, chance: float = 0.0) -> Breaker:
    return Breaker(rules, lambda: chance)


def allowed(found: Permit | Open) -> Permit:
    assert isinstance(found, Permit), found
    return found


def call(b: Breaker, outcome: Outcome, now: float) -> None:
    allowed(b.allow(now)).end(outcome, now)


def opened(b: Breaker, now: float = 0.0) -> Open:
    for _ in range(b.rules.threshold):
        call(b, Outcome.FAILURE, now)
    found = b.allow(now)
    assert isinstance(found, Open)
    return found


class BreakerMachine(RuleBasedStateMachine):
    """Calls begin and end in any order, late or never, while time passes and hands interfere.

    The model keeps every outcome that counts, with its time, and counts all of them anew at each step.
    """

    @initialize(
        threshold=st.integers(1, 6),
        probes=st.integers(1, 3),
        min_calls=st.integers(1, 12),
        rate=st.sampled_from([0.25, 0.5, 1.0]),
        slow_s=st.sampled_from([None, 10.0]),
        window_s=st.sampled_from([None, 30.0, 300.0]),
        chance=st.floats(0, 1, exclude_max=True),
    )
    def begin(self, threshold, probes, min_calls, rate, slow_s, window_s, chance):
        """Some rules, and a breaker that is closed."""
        self.rules = BreakerRules(
            threshold=threshold,
            open_s=20.0,
            open_max_s=100.0,
            probes=probes,
            min_calls=min_calls,
            failure_rate=rate,
            slow_call_s=slow_s,
            slow_rate=rate,
            window_s=window_s,
            probe_max_age_s=500.0,
        )
        self.chance = chance
        self.breaker = Breaker(self.rules, lambda: chance)
        self.now = 1_000.0
        self.permits: list[tuple[Permit, int, float]] = []
        """With the era in which it was given, and when. Ended ones stay, and are ended again."""
        self.ended: set[Permit] = set()
        self.state = State.CLOSED
        self.era = 0
        self.openings = 0
        self.earliest = 0.0
        self.passed = 0
        self.outcomes: list[tuple[float, Outcome]] = []
        self.row = 0

    def enter(self, state):
        self.state = state
        self.era += 1
        self.passed = 0
        if state is State.OPEN:
            open_s = min(self.rules.open_s * 2.0**self.openings, self.rules.open_max_s)
            self.earliest = self.now + open_s * (1 + JITTER * self.chance)
            self.openings += 1
        if state is State.CLOSED:
            self.outcomes, self.row, self.openings = [], 0, 0

    def probing(self):
        """Probes of this era that are under way and not lost."""
        young = [p for p, era, began in self.permits if era == self.era and self.now - began < 500.0]
        return [p for p in young if p not in self.ended]

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 7.0, 30.0, 61.0, 400.0, 499.0, 500.0]))
    def wait(self, seconds):
        """Time passes."""
        self.now += seconds

    @precondition(lambda self: self.state is State.OPEN and self.now < self.earliest)
    @rule(early_s=st.sampled_from([0.5, 0.0, 0.0]))
    def wait_for_the_probe(self, early_s):
        """Time passes until just before a probe may go, or until just then."""
        self.now = max(self.now, self.earliest - early_s)
        self.allow()

    @precondition(lambda self: self.state is State.CLOSED)
    @rule()
    def trouble(self):
        """The server fails until the breaker opens."""
        self.call([Outcome.FAILURE] * self.rules.threshold)

    @precondition(lambda self: self.state is State.HALF_OPEN)
    @rule()
    def crowd(self):
        """More calls want to probe than may."""
        for _ in range(self.rules.probes + 1):
            self.allow()

    @rule(outcomes=st.lists(st.sampled_from(Outcome), max_size=6))
    def call(self, outcomes):
        """Calls one after the other, each ended before the next, as long as they are let in."""
        for outcome in outcomes:
            given = len(self.permits)
            self.allow()
            if len(self.permits) == given:
                return
            self.finish(given, outcome)

    @rule()
    def allow(self):
        """A call wants to begin: refused while open before its time, and beyond the places for probes."""
        blocked = self.breaker.blocked(self.now)
        found = self.breaker.allow(self.now)
        assert (blocked is None) == isinstance(found, Permit)
        if isinstance(found, Open):
            assert found.until > self.now
            assert found.reason
            assert self.state is not State.CLOSED
            if self.state is State.OPEN:
                assert self.now < self.earliest == found.until
            if self.state is State.HALF_OPEN:
                assert len(self.probing()) == self.rules.probes - self.passed
            return
        assert self.state is not State.FORCED_OPEN
        if self.state is State.OPEN:
            assert self.now >= self.earliest
            self.enter(State.HALF_OPEN)
        self.permits.append((found, self.era, self.now))
        if self.state is State.HALF_OPEN:
            assert len(self.probing()) <= self.rules.probes - self.passed

    @precondition(lambda self: self.permits)
    @rule(data=st.data(), outcome=st.sampled_from([*Outcome, Outcome.SUCCESS, Outcome.FAILURE]))
    def end(self, data, outcome):
        """Some call ends: of any era, perhaps not for the first time."""
        self.finish(data.draw(st.integers(0, len(self.permits) - 1)), outcome)

    def finish(self, which, outcome):
        permit, era, _ = self.permits[which]
        counts = era == self.era and permit not in self.ended
        counts = counts and (self.state is not State.HALF_OPEN or permit in self.probing())
        permit.end(outcome, self.now)
        self.ended.add(permit)
        if counts and outcome is not Outcome.IGNORED:
            self.count(outcome)

    def count(self, outcome):
        if self.state is State.HALF_OPEN:
            self.passed += outcome is Outcome.SUCCESS
            if outcome is not Outcome.SUCCESS:
                self.enter(State.OPEN)
            elif self.passed == self.rules.probes:
                self.enter(State.CLOSED)
            return
        self.row = self.row + 1 if outcome is Outcome.FAILURE else 0
        self.outcomes.append((self.now, outcome))
        failing = self.row >= self.rules.threshold or self.rate_is_reached()
        if outcome is not Outcome.SUCCESS and failing:
            self.enter(State.OPEN)

    def recount(self):
        """(all, failed, slow) within the window, from all that ever counted since it last closed."""
        if self.rules.window_s is None:
            return None
        width = self.rules.window_s / BUCKETS
        within = [o for at, o in self.outcomes if at // width > self.now // width - BUCKETS]
        return len(within), within.count(Outcome.FAILURE), within.count(Outcome.SLOW)

    def rate_is_reached(self):
        counts = self.recount()
        if counts is None or counts[0] < self.rules.min_calls:
            return False
        calls, failed, slow = counts
        too_slow = self.rules.slow_call_s is not None and slow / calls >= self.rules.slow_rate
        return failed / calls >= self.rules.failure_rate or too_slow

    @rule(force=st.booleans())
    def by_hand(self, force):
        """Somebody opens it, or lets go again."""
        if force:
            self.breaker.force_open("maintenance")
            self.enter(State.FORCED_OPEN)
        else:
            self.breaker.release()
            if self.state is State.FORCED_OPEN:
                self.enter(State.HALF_OPEN)

    @rule()
    def recover(self):
        """The server is well and no call is under way for longer than a probe may be: it closes, always."""
        self.now += 10_000.0
        if self.state is State.FORCED_OPEN:
            self.by_hand(False)
        for _ in range(self.rules.probes):
            permit = allowed(self.breaker.allow(self.now))
            if self.state is State.OPEN:
                self.enter(State.HALF_OPEN)
            probed = self.state is State.HALF_OPEN
            permit.end(Outcome.SUCCESS, self.now)
            self.count(Outcome.SUCCESS)
            if not probed:
                return
        assert self.breaker.state is State.CLOSED

    @invariant()
    def agrees(self):
        """Its state is the model's, and its window what a recount gives."""
        reading = self.breaker.reading(self.now)
        assert reading.state is self.state
        assert reading.consecutive == self.row
        counts = self.recount()
        assert reading.calls == (None if counts is None else counts[0])
        if counts and counts[0]:
            assert reading.failure_rate == counts[1] / counts[0]
            assert reading.slow_rate == counts[2] / counts[0]
        else:
            assert reading.failure_rate is None


BreakerMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestBreakerStates = BreakerMachine.TestCase


# -- the breaker, rule by rule


def test_failures_in_a_row_open_it() -> None:
    """CIRCUIT_BREAKER_THRESHOLD of them, with no success in between; what says nothing of the server is passed over."""
    b = breaker()
    for outcome in (Outcome.FAILURE, Outcome.FAILURE, Outcome.SUCCESS, Outcome.FAILURE, Outcome.IGNORED):
        call(b, outcome, 0.0)
    call(b, Outcome.FAILURE, 0.0)
    assert b.state is State.CLOSED
    call(b, Outcome.FAILURE, 0.0)
    assert b.allow(0.0) == Open(60.0, "3 failures in a row")


@pytest.mark.parametrize(
    ("outcomes", "reason"),
    [
        (("success", "failure") * 3, "3 of 6 calls within 60 s failed"),
        (("success",) + ("slow",) * 5, "5 of 6 calls within 60 s took more than 10 s"),
        (("slow", "success") * 10, None),
        (("success", "failure") * 2 + ("success",), None),
        (("failure", "failure", "success") * 2, None),
    ],
    ids=["half failed", "most were slow", "half were slow", "too few to tell", "a success opens nothing"],
)
def test_rates_open_it(outcomes: tuple[str, ...], reason: str | None) -> None:
    """Failure rate and slow-call rate of the window, from so many calls on."""
    b = breaker()
    for outcome in outcomes:
        call(b, Outcome[outcome.upper()], 1.0)
    assert b.reading(1.0).reason == (reason or "")
    assert b.state is (State.OPEN if reason else State.CLOSED)


def test_what_left_the_window_is_forgotten() -> None:
    """Failures that are older than the window open nothing."""
    b = breaker()
    for at in (0.0, 1.0, 70.0, 71.0, 140.0, 141.0):
        call(b, Outcome.FAILURE, at)
        call(b, Outcome.SUCCESS, at)
    assert b.state is State.CLOSED


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_it_stays_open_for_longer_each_time(chance: float) -> None:
    """60, 120, 200 (the most), 200 s, lengthened by jitter and never shortened; after a close it begins anew."""
    b, now = breaker(chance=chance), 0.0
    found = opened(b)
    for wait_s in (60.0, 120.0, 200.0, 200.0):
        assert found.until >= now + wait_s
        assert found.until - now == pytest.approx(wait_s * (1 + JITTER * chance))
        now = found.until
        call(b, Outcome.FAILURE, now)
        again = b.allow(now)
        assert isinstance(again, Open)
        found = again
    now = found.until
    call(b, Outcome.SUCCESS, now)
    assert opened(b, now).until == now + 60.0 * (1 + JITTER * chance)


@pytest.mark.parametrize("late", [Outcome.SUCCESS, Outcome.FAILURE], ids=str)
def test_a_late_outcome_says_nothing(late: Outcome) -> None:
    """A call that began before the breaker opened neither closes nor re-opens it when it ends during a probe."""
    b = breaker()
    early = allowed(b.allow(0.0))
    until = opened(b).until
    probe = allowed(b.allow(until))
    early.end(late, until)
    assert b.state is State.HALF_OPEN
    probe.end(Outcome.SUCCESS, until)
    assert b.state is State.CLOSED


def test_a_cancelled_probe_leaves_its_place() -> None:
    """An ignored outcome decides nothing, and the next call is the probe."""
    b = breaker()
    until = opened(b).until
    first = allowed(b.allow(until))
    assert isinstance(b.allow(until), Open)
    first.end(Outcome.IGNORED, until)
    assert b.state is State.HALF_OPEN
    call(b, Outcome.SUCCESS, until)
    assert b.state is State.CLOSED


def test_a_lost_probe_wedges_nothing() -> None:
    """After probe_max_age_s its place is free; what it says then counts no more."""
    b = breaker(BreakerRules(threshold=1, probe_max_age_s=300.0))
    until = opened(b).until
    unasked = allowed(b.allow(until))
    unasked.end(Outcome.FAILURE, until + 300.0)
    assert b.state is State.HALF_OPEN
    lost = allowed(b.allow(until))
    assert isinstance(b.allow(until + 299.0), Open)
    probe = allowed(b.allow(until + 300.0))
    lost.end(Outcome.FAILURE, until + 301.0)
    assert b.state is State.HALF_OPEN
    probe.end(Outcome.SUCCESS, until + 301.0)
    assert b.state is State.CLOSED


def test_a_long_probe_is_asked_after_less_and_less_often() -> None:
    """At first each second, then after as long as it has taken, at most an open time."""
    b = breaker()
    until = opened(b).until
    allowed(b.allow(until))
    waits = []
    for taken in (0.0, 1.0, 8.0, 100.0):
        found = b.blocked(until + taken)
        assert found is not None
        waits.append(found.until - until - taken)
    assert waits == pytest.approx([1.0, 1.0, 8.0, 60.0])


def test_all_probes_must_be_good() -> None:
    """With two places, two successes close it, and no more than two calls are let in for that."""
    b = breaker(BreakerRules(threshold=1, probes=2))
    until = opened(b).until
    first, second = allowed(b.allow(until)), allowed(b.allow(until))
    first.end(Outcome.SUCCESS, until)
    assert isinstance(b.allow(until), Open)
    assert b.state is State.HALF_OPEN
    second.end(Outcome.SUCCESS, until)
    assert b.state is State.CLOSED


def test_a_slow_probe_opens_it_again() -> None:
    """A breaker that opened for slowness doesn't flap."""
    b = breaker()
    until = opened(b).until
    call(b, RULES.judged(10.1), until)
    assert b.state is State.OPEN


def test_changes_are_told_with_their_reason() -> None:
    """Each new state once, to those who log, count and notify."""
    told: list[tuple[State, str]] = []
    b = Breaker(RULES, lambda: 0.0, lambda state, reason: told.append((state, reason)))
    call(b, Outcome.SUCCESS, opened(b).until)
    assert told == [(State.OPEN, "3 failures in a row"), (State.HALF_OPEN, "3 failures in a row"), (State.CLOSED, "")]


@pytest.mark.parametrize("span_s", [1.0, 60.0, 77.7])
def test_counts_leave_with_their_bucket(span_s: float) -> None:
    """Nothing is forgotten within the span less one bucket, nothing is left after it, and a step back harms nothing."""
    counts = SlidingCounts(span_s, kinds=2)
    assert counts.until_fewer(0.0, 1) is None
    counts.add(100.0, 1)
    counts.add(99.0, 1)
    assert counts.totals(100.0 + span_s * (1 - 1.01 / BUCKETS)) == [0, 2]
    left_s = counts.until_fewer(100.0, 1)
    assert left_s is not None
    assert span_s * (1 - 1 / BUCKETS) <= left_s * (1 + 1e-9) <= span_s * (1 + 1e-6)
    assert counts.totals(100.0 + span_s * 1.001) == [0, 0]


# -- all of a worker's breakers


def breakers(**given: object) -> Breakers:
    return Breakers(RULES, lambda: 0.0, **given)  # type: ignore[arg-type]


def permit(found: CallPermit | Open) -> CallPermit:
    assert isinstance(found, CallPermit), found
    return found


def states(b: Breakers) -> dict[str | None, State]:
    return {key.model: reading.state for key, reading in b.snapshot(0.0).items()}


@pytest.mark.parametrize(
    ("counts", "server", "model"),
    [
        (Counts.FAILURE, State.CLOSED, State.OPEN),
        (Counts.UNREACHABLE, State.OPEN, State.CLOSED),
        (Counts.ANSWERED, State.CLOSED, State.CLOSED),
        (Counts.NOTHING, State.CLOSED, State.CLOSED),
    ],
    ids=str,
)
def test_whose_failure_it_is(counts: Counts, server: State, model: State) -> None:
    """A failed model opens its own breaker, a refused connection the server's, and the rest none."""
    b = breakers()
    for _ in range(RULES.threshold):
        permit(b.allow(SERVER, MODEL, 0.0)).failed(0.0, counts)
    assert states(b) == {None: server, MODEL: model}
    assert (b.blocked(SERVER, "other:latest", 0.0) is None) == (server is State.CLOSED)


def test_a_server_is_asked_sooner_than_a_model() -> None:
    """A connection is cheap: 5 s at first, and never longer than a model's first open time."""
    b, now = breakers(), 0.0
    for _ in range(RULES.threshold):
        permit(b.allow(SERVER, MODEL, now)).failed(now, Counts.UNREACHABLE)
    waits = []
    for _ in range(6):
        found = b.blocked(SERVER, MODEL, now)
        assert found is not None
        waits.append(found.until - now)
        now = found.until
        permit(b.allow(SERVER, MODEL, now)).failed(now, Counts.UNREACHABLE)
    assert waits == [SERVER_OPEN_S, 10.0, 20.0, 40.0, 60.0, 60.0]


def test_a_server_that_answers_need_not_be_probed_to_the_answer_s_end() -> None:
    """Its first piece closes the server's breaker: other models' jobs don't wait for the whole of it."""
    b = breakers()
    for _ in range(RULES.threshold):
        permit(b.allow(SERVER, MODEL, 0.0)).failed(0.0, Counts.UNREACHABLE)
    probe = permit(b.allow(SERVER, MODEL, 5.0))
    assert isinstance(b.allow(SERVER, "other:latest", 5.0), Open)
    probe.connected(5.1)
    permit(b.allow(SERVER, "other:latest", 5.1)).ignored(5.2)
    probe.success(9.0, 0.1)
    probe.failed(9.0)
    assert states(b) == {None: State.CLOSED, MODEL: State.CLOSED, "other:latest": State.CLOSED}


def test_no_permit_is_taken_of_one_where_the_other_refuses() -> None:
    """While a model is open, calls to it take no place of the server's probes."""
    b = breakers()
    for _ in range(RULES.threshold):
        permit(b.allow(SERVER, MODEL, 0.0)).failed(0.0)
    b.force_open(SERVER, None, "maintenance")
    b.release(SERVER, None)
    assert isinstance(b.allow(SERVER, MODEL, 1.0), Open)
    permit(b.allow(SERVER, "other:latest", 1.0)).success(1.0, 0.1)
    assert states(b)[None] is State.CLOSED


def test_slow_answers_are_the_model_s() -> None:
    """Time to the first piece beyond CIRCUIT_BREAKER_SLOW_CALL counts against the model, never the server."""
    b = breakers()
    for _ in range(RULES.min_calls):
        permit(b.allow(SERVER, MODEL, 0.0)).success(0.0, 10.5)
    assert states(b) == {None: State.CLOSED, MODEL: State.OPEN}


def test_switched_off_it_lets_everything_pass() -> None:
    """ENABLE_CIRCUIT_BREAKER=false: no refusal, no memory."""
    b = breakers(enabled=False)
    for _ in range(100):
        permit(b.allow(SERVER, MODEL, 0.0)).failed(0.0)
    b.force_open(SERVER, MODEL, "maintenance")
    assert b.blocked(SERVER, MODEL, 0.0) is None
    permit(b.allow(SERVER, MODEL, 0.0)).success(0.0, 1.0)


def test_there_are_never_more_than_so_many() -> None:
    """Jobs that name ever new models push out quiet breakers, and not the one that is open."""
    b = breakers(most=10)
    for _ in range(RULES.threshold):
        permit(b.allow(SERVER, MODEL, 0.0)).failed(0.0)
    for n in range(100):
        permit(b.allow(SERVER, f"made-up-{n}", 0.0)).failed(0.0, Counts.ANSWERED)
    assert len(b.snapshot(0.0)) == 10
    assert isinstance(b.allow(SERVER, MODEL, 1.0), Open)


def test_a_change_is_told_with_its_key() -> None:
    """So that a metric, a log line and a notification can name it."""
    told: list[tuple[Key, State, str]] = []
    b = Breakers(RULES, lambda: 0.0, lambda *change: told.append(change))
    for _ in range(RULES.threshold):
        permit(b.allow(SERVER, MODEL, 0.0)).failed(0.0)
    assert told == [(Key(SERVER, MODEL), State.OPEN, "3 failures in a row")]
