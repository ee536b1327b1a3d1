"""The leader's hands, in virtual time: what loads, unloads and downloads come to, and what the plan says then."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest
import structlog

from llmpool_worker.backends.base import BackendError, ErrorKind, LocalModel, PullProgress, ResidentModel
from llmpool_worker.models.deciding import Rules
from llmpool_worker.models.fit import Fit, Fits, Memory
from llmpool_worker.models.leader import Leader, LeaderRules
from llmpool_worker.models.types import MemberReport, Plan
from tests.support import virtual_time

A, B = "a:1b", "b:1b"
BROKEN = BackendError(ErrorKind.RETRYABLE, "load_failed", "out of memory")
MISSING = BackendError(ErrorKind.PERMANENT, "model_not_found", "no such model")
BUSY = BackendError(ErrorKind.UNAVAILABLE, "backend_full", "busy")


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    """What a leader logs is for people."""
    with structlog.testing.capture_logs():
        yield


class Played:
    """A server whose loads take a second, and what was asked of it."""

    def __init__(self, *resident: str, fails: BackendError | None = None, load_s: float = 1.0) -> None:
        self.there, self.fails, self.load_s = list(resident), fails, load_s
        self.pushes_out = self.forgets = self.clings = False
        self.asked: list[str] = []

    async def models(self) -> list[LocalModel]:
        return [LocalModel(A, 10), LocalModel(B, 20)]

    async def resident(self) -> list[ResidentModel]:
        return [ResidentModel(name, 10) for name in self.there]

    async def load(self, model: str) -> None:
        self.asked.append(f"load {model}")
        await asyncio.sleep(self.load_s)
        if self.fails:
            raise self.fails
        if self.pushes_out:
            self.there.clear()
        if not self.forgets:
            self.there.append(model)

    async def unload(self, model: str) -> None:
        self.asked.append(f"unload {model}")
        if not self.clings:
            self.there.remove(model)

    async def pull(self, model: str) -> AsyncGenerator[PullProgress]:
        self.asked.append(f"pull {model}")
        self.fails = None
        return
        yield


class Ears:
    """Who hears of loads and unloads."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def loaded(self, model: str, seconds: float, code: str | None) -> None:
        self.heard.append((model, seconds, code))

    def unloaded(self, model: str, reason: str) -> None:
        self.heard.append((model, "unloaded"))


class Lead:
    """One leader, and one worker that asks for B."""

    def __init__(self, server: Played, memory: Memory | None = None, may_pull: bool = False) -> None:
        self.ears, self.fits = Ears(), Fits(memory or Memory())
        rules = LeaderRules(Rules(60, 30, 300), 600.0, lambda model: may_pull)
        self.leader = Leader(server, rules, self.fits, self.ears)
        self.plan = Plan()

    async def turns(self, seconds: float, *, every: float = 0.25) -> Plan:
        """Turns of a worker that hears and tells everything at once."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            asks = {} if B in self.plan.opened else {B: 990.0}
            report = MemberReport(self.plan.epoch, {}, asks)
            self.plan = await self.leader.turn(self.plan, {"w": report}, 1_000.0 + loop.time(), lambda: None)
            await asyncio.sleep(every)
        return self.plan


def test_a_load_opens_the_model() -> None:
    """Begun as a call beside the turns; then it is open, ours, and known to fit."""

    async def main() -> None:
        lead = Lead(Played(A))
        plan = await lead.turns(1.0)
        assert (plan.target, plan.doing, lead.leader.acts) == (B, f"loading {B}", True)
        plan = await lead.turns(1.5)
        assert (plan.opened, plan.ours, plan.target, plan.doing) == ({A, B}, {B}, None, "")
        assert lead.ears.heard == [(B, 1.0, None)]
        assert lead.fits.of([A, B]) is Fit.YES

    virtual_time.run(main())


def test_a_swap_unloads_what_is_ours_only() -> None:
    """A model that somebody else loaded is left to the server; that it went is learnt."""

    async def main() -> None:
        server = Played(A)
        server.pushes_out = True
        lead = Lead(server, Memory(max_loaded=1))
        plan = await lead.turns(3.0)
        assert server.asked == [f"load {B}"]
        assert (plan.opened, plan.ours) == ({B}, {B})
        assert lead.fits.of([A, B]) is Fit.NO
        again = Lead(Played(A), Memory(max_loaded=1))
        again.plan = Plan(ours=frozenset({A}))
        plan = await again.turns(4.0)
        assert (plan.opened, plan.ours) == ({B}, {B})
        assert again.ears.heard == [(A, "unloaded"), (B, 1.0, None)]

    virtual_time.run(main())


@pytest.mark.parametrize(
    ("server", "code"),
    [
        pytest.param(Played(fails=BROKEN), "load_failed", id="it fails"),
        pytest.param(Played(fails=MISSING), "model_not_found", id="no such model"),
        pytest.param(Played(load_s=10_000.0), "load_failed", id="it takes too long"),
    ],
)
def test_a_failed_load_is_trouble(server: Played, code: str) -> None:
    """Its jobs are told so, others go on, and it is tried again after 5 s, then 10."""

    async def main() -> None:
        lead = Lead(server)
        loop, told = asyncio.get_running_loop(), []
        while len(told) < 3:
            plan = await lead.turns(0.25)
            if (trouble := plan.trouble.get(B)) and trouble not in told:
                told.append(trouble)
                assert trouble.until - 1_000.0 - loop.time() == pytest.approx(5 * 2 ** (len(told) - 1), abs=0.6)
        assert {trouble.code for trouble in told} == {code}
        assert plan.target is None
        assert B not in plan.opened

    virtual_time.run(main())


def test_a_load_that_leaves_nothing() -> None:
    """A model that was loaded and isn't in memory then has failed: else it would be loaded without end."""

    async def main() -> None:
        server = Played()
        server.forgets = True
        plan = await Lead(server).turns(4.0)
        assert plan.trouble[B].code == "load_failed"
        assert server.asked == [f"load {B}"]

    virtual_time.run(main())


def test_a_busy_server_is_asked_again() -> None:
    """A load that it refused is no fault of the model: no trouble, and another try after a second, not at once."""

    async def main() -> None:
        server = Played(fails=BUSY, load_s=0.0)
        lead = Lead(server)
        plan = await lead.turns(5.0, every=0.02)
        assert plan.trouble == {}
        assert 4 <= len(server.asked) <= 6
        server.fails = None
        assert (await lead.turns(2.0)).opened == {B}

    virtual_time.run(main())


@pytest.mark.parametrize(
    ("may", "asked"),
    [
        pytest.param(True, [f"load {B}", f"pull {B}", f"load {B}"], id="allowed"),
        pytest.param(False, [f"load {B}"], id="not allowed"),
    ],
)
def test_a_missing_model_is_downloaded(may: bool, asked: list[str]) -> None:
    """Where that is allowed; it is loaded then."""

    async def main() -> None:
        server = Played(fails=MISSING)
        plan = await Lead(server, may_pull=may).turns(4.0)
        assert server.asked == asked
        assert (B in plan.opened) is may

    virtual_time.run(main())


def test_a_model_that_stays() -> None:
    """One that doesn't go when it is unloaded isn't waited for without end, nor unloaded again: the load goes ahead."""

    async def main() -> None:
        server = Played(A)
        server.clings = True
        lead = Lead(server, Memory(max_loaded=1))
        lead.plan = Plan(ours=frozenset({A}))
        await lead.turns(15.0)
        assert server.asked == [f"unload {A}", f"load {B}"]

    virtual_time.run(main())


def test_a_leader_that_leaves() -> None:
    """Ends what it began; the plan still says what was wanted, for the next one."""

    async def main() -> None:
        server = Played()
        lead = Lead(server)
        plan = await lead.turns(0.75)
        await lead.leader.aclose()
        assert plan.target == B
        following = Lead(server)
        following.plan = plan
        assert (await following.turns(2.0)).opened == {B}

    virtual_time.run(main())
