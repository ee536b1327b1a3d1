"""The saturation gate: background work yields to others on a shared server, comes back, and isn't fooled by itself."""

import heapq
import itertools
import random
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpool_worker.backends.base import BackendError, ErrorKind
from llmpool_worker.saturation import STEP_S, Limits, Sample, SaturationGate
from llmpool_worker.waiting_poll import WaitingPoll, waiting_in

LIMITS = Limits(slot_wait_s=1.0, first_token_s=5.0, waiting=4)


class Server:
    """A model server in virtual time: ``slots`` requests at once, the others wait in their order.

    Background jobs are always there, as many as the gate allows. Interactive requests come at random while
    ``interactive_per_s`` isn't 0.
    """

    def __init__(self, gate: SaturationGate, slots: int, *, signal: str, service_s: float = 2.0) -> None:
        self.gate, self.slots, self.signal, self.service_s = gate, slots, signal, service_s
        self.now, self.done, self.samples = 0.0, 0, 0
        self.interactive_per_s = 0.0
        self.waiting: deque[tuple[float, bool]] = deque()
        self.busy = self.ours = 0
        self.random = random.Random(7)
        self.order = itertools.count()
        self.agenda: list[tuple[float, int, Callable[[], None]]] = []
        self.later(0.0, self.poll)

    def later(self, after_s: float, what: Callable[[], None]) -> None:
        heapq.heappush(self.agenda, (self.now + after_s, next(self.order), what))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        self.fill()
        while self.agenda[0][0] <= end:
            self.now, _, what = heapq.heappop(self.agenda)
            what()
            self.fill()
        self.now = end

    def interactive(self, per_s: float) -> None:
        """Others begin, or with 0 stop, to use the server."""
        idle, self.interactive_per_s = self.interactive_per_s == 0, per_s
        if idle and per_s:
            self.later(0.0, self.arrive)

    def arrive(self) -> None:
        if self.interactive_per_s:
            self.waiting.append((self.now, False))
            self.later(self.random.expovariate(self.interactive_per_s), self.arrive)

    def fill(self) -> None:
        while self.ours < self.gate.allowed:
            self.ours += 1
            self.waiting.append((self.now, True))
        while self.waiting and self.busy < self.slots:
            began, is_ours = self.waiting.popleft()
            self.busy += 1
            wait_s = self.now - began
            service_s = self.service_s * self.random.uniform(0.7, 1.3)
            self.later(service_s, partial(self.end, began, is_ours, wait_s))

    def end(self, began: float, is_ours: bool, wait_s: float) -> None:
        self.busy -= 1
        if is_ours:
            self.done += 1
            if self.signal == "slot_wait":
                self.observe(Sample(slot_wait_s=wait_s, began=began))
            self.ours -= 1

    def poll(self) -> None:
        if self.signal == "waiting":
            self.observe(Sample(waiting=len(self.waiting)))
        self.later(2.0, self.poll)

    def observe(self, sample: Sample) -> None:
        self.samples += 1
        self.gate.observe(self.now, sample, self.ours)


LIMITS_OF = {"slot_wait": Limits(slot_wait_s=1.0), "waiting": Limits(waiting=2)}


@pytest.mark.parametrize("signal", ["slot_wait", "waiting"])
def test_it_yields_to_others_and_comes_back(signal: str) -> None:
    """Interactive load that fills the server: one background job is left within 20 readings, all are back after it."""
    gate = SaturationGate(LIMITS_OF[signal], most=4)
    server = Server(gate, slots=6, signal=signal)
    server.run(120.0)
    assert (gate.allowed, gate.reason) == (4, "")
    for _ in range(2):  # a second time as the first: nothing was learnt that makes it slower
        server.interactive(per_s=4.0)
        before = server.samples
        while gate.allowed > 1:
            server.run(1.0)
            assert server.samples - before <= 20
        assert gate.reason
        server.run(200.0)
        assert gate.allowed <= 2
        server.interactive(per_s=0.0)
        server.waiting = deque(one for one in server.waiting if one[1])
        server.run(80.0 + 5 * STEP_S + 60.0)
        assert (gate.allowed, gate.reason) == (4, "")


@pytest.mark.parametrize("signal", ["slot_wait", "waiting"])
def test_it_isn_t_fooled_by_its_own_load(signal: str) -> None:
    """Alone on a server with fewer slots than jobs at once: it settles near the slots, and keeps them busy."""
    slots, service_s = 2, 4.0
    limits = Limits(slot_wait_s=1.0, waiting=None) if signal == "slot_wait" else Limits(waiting=1)
    gate = SaturationGate(limits, most=12)
    server = Server(gate, slots, signal=signal, service_s=service_s)
    server.run(300.0)
    before, seen = server.done, []
    for _ in range(60):
        server.run(20.0)
        seen.append(gate.allowed)
    assert min(seen) >= slots
    assert sum(seen) / len(seen) <= slots + 2
    assert (server.done - before) / 1_200.0 >= 0.9 * slots / service_s


def beyond(gate: SaturationGate, now: float, times: int = 2, running: int = 1) -> None:
    for _ in range(times):
        gate.observe(now, Sample(slot_wait_s=9.0), running)


def calm(gate: SaturationGate, now: float) -> None:
    gate.observe(now, Sample(slot_wait_s=0.1), 1)


def test_without_limits_nothing_is_looked_at() -> None:
    """Off by default: whatever is seen, all may run."""
    gate = SaturationGate(Limits(), most=5)
    for now in range(100):
        gate.observe(now, Sample(99.0, 99.0, 99), 5)
    assert (gate.allowed, gate.reason, Limits().any) == (5, "", False)


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (Sample(slot_wait_s=1.5), "requests waited 1.5 s for a slot (limit 1 s)"),
        (Sample(first_token_s=6.25), "first tokens took 6.25 s (limit 5 s)"),
        (Sample(waiting=7), "7 requests wait in the server (limit 4)"),
    ],
    ids=["slot", "first token", "waiting"],
)
def test_it_says_why(sample: Sample, reason: str) -> None:
    """Which reading, and what its limit is."""
    gate = SaturationGate(LIMITS, most=8)
    gate.observe(0.0, sample, 1)
    assert (gate.allowed, gate.reason) == (8, "")
    gate.observe(0.0, sample, 1)
    assert (gate.allowed, gate.reason) == (4, reason)


def test_one_reading_may_be_an_outlier() -> None:
    """Beyond, calm, beyond: nothing changes. Each kind of reading has a row of its own."""
    gate = SaturationGate(LIMITS, most=8)
    for now in range(10):
        gate.observe(now, Sample(slot_wait_s=9.0), 1)
        gate.observe(now, Sample(slot_wait_s=0.0), 1)
    gate.observe(20.0, Sample(slot_wait_s=9.0), 1)
    gate.observe(21.0, Sample(waiting=9), 1)
    assert gate.allowed == 8


def test_missing_changes_nothing() -> None:
    """A server that tells nothing is neither busy nor calm."""
    gate = SaturationGate(LIMITS, most=8)
    beyond(gate, 0.0, times=1)
    gate.observe(1.0, Sample(), 1)
    beyond(gate, 2.0, times=1)
    assert gate.allowed == 4
    for now in range(3, 1_000):
        gate.observe(now, Sample(), 1)
    assert gate.allowed == 4


def test_a_cut_is_given_time_to_work() -> None:
    """Requests that began before it, and readings while more run than are allowed, tell of the time before."""
    gate = SaturationGate(LIMITS, most=8)
    beyond(gate, 10.0)
    for now in (11.0, 12.0, 13.0):
        gate.observe(now, Sample(slot_wait_s=9.0, began=9.9), 1)
        gate.observe(now, Sample(waiting=9), 5)
    assert gate.allowed == 4
    beyond(gate, 14.0)
    assert gate.allowed == 2


def test_it_recovers_step_by_step() -> None:
    """One more for each calm stretch, and no reason is left at the end."""
    gate = SaturationGate(LIMITS, most=4)
    beyond(gate, 0.0)
    beyond(gate, 0.0)
    seen = []
    for now in range(1, 60):
        calm(gate, float(now))
        seen.append(gate.allowed)
    assert [allowed for allowed, _ in itertools.groupby(seen)] == [1, 2, 3, 4]
    assert gate.reason == ""


def test_between_calm_and_busy_it_holds() -> None:
    """Readings in between neither cut nor give back: no flapping at the limit."""
    gate = SaturationGate(LIMITS, most=4)
    beyond(gate, 0.0)
    for now in range(1, 1_000):
        gate.observe(float(now), Sample(slot_wait_s=0.8), 1)
    assert gate.allowed == 2


def test_a_step_too_many_is_taken_back_and_tried_less_often() -> None:
    """The step is the likely cause of trouble that follows it, so it alone is undone; the next waits twice as long."""
    gate = SaturationGate(LIMITS, most=8)
    beyond(gate, 0.0)
    now, waits = 0.0, []
    for _ in range(5):
        since = now
        while gate.allowed == 4:
            now += 1.0
            calm(gate, now)
        waits.append(now - since)
        beyond(gate, now + 0.5)
        assert (gate.allowed, gate.reason[:21]) == (4, "one more was too many")
    assert waits == pytest.approx([11.0, 21.0, 41.0, 81.0, 81.0], abs=1.0)


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from([None, 0.0, 0.7, 3.0]),
            st.sampled_from([None, 0.0, 9.0]),
            st.sampled_from([0.0, 1.0, 30.0]),
            st.integers(0, 9),
        )
    ),
    most=st.integers(1, 9),
)
def test_it_stays_between_its_bounds(steps, most) -> None:
    """Never under one and never over what the worker may run; and it has a reason whenever it is under that."""
    gate, now = SaturationGate(LIMITS, most), 0.0
    for slot_wait_s, waiting, later_s, running in steps:
        now += later_s
        before = gate.allowed
        allowed = gate.observe(now, Sample(slot_wait_s=slot_wait_s, waiting=waiting), running)
        assert 1 <= allowed == gate.allowed <= min(most, before + 1)
        assert bool(gate.reason) == (allowed < most)


# -- what a server says of itself

VLLM = b"""# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="a} b"} 3.0
vllm:num_requests_waiting{engine="1",model_name="a} b"} 4.0
vllm:num_requests_waiting_by_reason{reason="capacity"} 9.0
vllm:num_requests_running{engine="0"} 8.0
"""


@pytest.mark.parametrize(
    ("exposition", "waiting"),
    [
        (VLLM, 7),
        (b"llamacpp:requests_processing 4\nllamacpp:requests_deferred 2\n", 2),
        (b"llamacpp:requests_deferred 0\r\n", 0),
        (b"vllm:num_requests_waiting 1e1 1395066363000\n", 10),
        (b"vllm:num_requests_waiting NaN\n", None),
        (b'vllm:num_requests_waiting 1\nvllm:num_requests_waiting{engine="1"} +Inf\n', None),
        (b"vllm:num_requests_waiting much\n", None),
        (b"# vllm:num_requests_waiting 3\n", None),
        (b"", None),
        (b"<html>\xff</html>", None),
    ],
    ids=["vllm", "llama.cpp", "zero", "exponent", "nan", "part unknown", "no number", "comment", "empty", "no metrics"],
)
def test_waiting_requests_are_read(exposition: bytes, waiting: int | None) -> None:
    """All engines together; what the server doesn't say is not zero."""
    assert waiting_in(exposition) == waiting


def answers(data: bytes | Exception) -> Callable[[], Awaitable[bytes]]:
    async def fetch() -> bytes:
        if isinstance(data, Exception):
            raise data
        return data

    return fetch


@pytest.mark.parametrize(
    ("data", "waiting"),
    [
        (VLLM, 7),
        (BackendError(ErrorKind.UNAVAILABLE, "backend_unreachable", "no connection"), None),
        (TimeoutError(), None),
        (OSError(), None),
    ],
    ids=["answer", "unreachable", "timeout", "broken"],
)
async def test_a_poll_tells_what_it_found(data: bytes | Exception, waiting: int | None) -> None:
    """A number, or that there was none to be had: it never raises for what a server does."""
    told: list[int | None] = []
    await WaitingPoll(answers(data), told.append).turn()
    assert told == [waiting]
