"""The queue as a state machine on a real Redis: in whatever order things happen, no job is lost or answered twice."""

import asyncio
import itertools
import json
from collections.abc import Coroutine
from typing import Any

import redis.asyncio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from llmpool_contract import JobError, QueueKeys, Result, Status
from llmpool_contract.element import decode
from llmpool_worker.admission import Refused, Rules, read
from llmpool_worker.filters import Limits as JobLimits
from llmpool_worker.queue.connections import Connections
from llmpool_worker.queue.store import Limits, QueueStore
from llmpool_worker.queue.types import Claim, Settlement, Verdict
from llmpool_worker.routing import AllowedModels, Chains

Q = QueueKeys("q")
RULES = Rules(
    queues={Q: None},
    job_max_bytes=1_000,
    max_deliveries=3,
    chains=Chains({}, AllowedModels()),
    limits=JobLimits(messages=10, input_chars=1_000, images=1, image_bytes=100, predict=100, embed_inputs=10),
    worker="w",
)
KINDS = st.sampled_from(
    [
        {"type": "generate", "model": "m", "prompt": "x"},
        {"type": "generate", "model": "n", "prompt": "x"},
        {"type": "embed", "model": "m", "input": ["x", "y"]},
        {"type": "embed", "model": "n:latest", "input": "x"},
    ]
)
OWNERS = st.sampled_from([{}, {"tenant": "a"}, {"tenant": "b"}])
CAPS = st.none() | st.dictionaries(st.sampled_from(["m:latest", "n:latest", "*"]), st.integers(0, 6))


class QueueMachine(RuleBasedStateMachine):
    """Producers push, workers claim, check, settle, lose replies, sleep through leases and die; anybody tends."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.connections = Connections(self.url)
        self.redis: redis.asyncio.Redis = self.connections.once()
        limits = Limits(lease_ms=30_000, job_max_bytes=1_000, slot_units=2, tenants={"b": {"j": 3}})
        self.store = QueueStore("w", limits)
        self.claims: list[tuple[Claim, str]] = []
        """Everything that any worker ever believed to hold and may still act on, zombies included."""
        self.pushed: set[str] = set()
        self.answers: dict[str, bytes] = {}
        self.counter = itertools.count()

    def do(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(call)

    @initialize()
    def begin_empty(self) -> None:
        self.do(self.redis.flushall())

    def teardown(self) -> None:
        self.do(self.connections.aclose())
        self.loop.close()

    def token(self) -> str:
        return f"t{next(self.counter)}"

    # -- producers

    @rule(priority=st.sampled_from(["high", "normal", "low"]), again=st.booleans(), kind=KINDS, owner=OWNERS)
    def push(self, priority: Any, again: bool, kind: dict[str, Any], owner: dict[str, Any]) -> None:
        """A new job, or one with an id that is already taken; of some model, perhaps a tenant's."""
        job_id = min(self.pushed) if again and self.pushed else f"job-{next(self.counter)}"
        self.pushed.add(job_id)
        body = {"id": job_id, **kind, **owner}
        self.do(self.redis.rpush(Q.list_of(priority), json.dumps(body)))

    # -- workers

    @rule(want=st.integers(1, 8), caps=CAPS, lose_reply=st.booleans(), die=st.booleans())
    def claim(self, want: int, caps: dict[str, int] | None, lose_reply: bool, die: bool) -> None:
        """Claim; a lost reply is asked for again and brings the same; a worker may die before it reads it."""
        token = self.token()
        claimed = self.do(self.store.claim(self.redis, Q, token, want, caps=caps))
        if lose_reply:
            again = self.do(self.store.claim(self.redis, Q, token, want, caps=caps))
            if claimed.claims:
                assert [c.handle for c in again.claims] == [c.handle for c in claimed.claims]
            claimed = again
        if die:
            return
        for claim in claimed.claims:
            self.admit(claim)

    def admit(self, claim: Claim) -> None:
        job = read(claim, RULES)
        if isinstance(job, Refused):
            assert job.code == "poison"
            error = JobError(code=job.code, message=job.reason)
            failed = Result(id=str(job.job_id), status=Status.FAILED, error=error, handle=claim.handle)
            self.settle(Settlement.buried(claim, job.code, job.reason, failed))
            return
        job_id = str(job.id)
        [verdict] = self.do(self.store.check(self.redis, Q, [(claim, job_id)]))
        assert verdict is not Verdict.LOST
        if verdict is Verdict.RUN:
            self.claims.append((claim, job_id))
        else:
            self.settle(Settlement.dropped(claim, "dropped_duplicates"))

    @rule(data=st.data(), how=st.sampled_from(["answer", "retry", "release", "bury"]), repeat=st.booleans())
    def end(self, data: st.DataObject, how: str, repeat: bool) -> None:
        """Any holder, also one that has lost its lease, tries to end its claim, perhaps twice."""
        if not self.claims:
            return
        claim, job_id = self.claims.pop(data.draw(st.integers(0, len(self.claims) - 1)))
        result = Result(id=job_id, status=Status.SUCCEEDED, handle=claim.handle)
        match how:
            case "answer":
                end = Settlement.answered(claim, result, streamed=False)
            case "retry":
                end = Settlement.retried(claim, job_id, 1_000, counts=True)
            case "release":
                end = Settlement.released(claim, job_id)
            case _:
                end = Settlement.buried(claim, "timeout", "r", result.model_copy(update={"status": Status.FAILED}))
        held = self.do(self.redis.hexists(Q.claimed, claim.handle))
        assert self.settle(end, repeat=repeat) == bool(held)

    def settle(self, end: Settlement, *, repeat: bool = False) -> bool:
        token = self.token()
        [done] = self.do(self.store.settle(self.redis, Q, token, [end]))
        if repeat:
            assert self.do(self.store.settle(self.redis, Q, token, [end])) == [done]
        return bool(done)

    # -- time

    @rule()
    def leases_lapse(self) -> None:
        """Every worker is silent for longer than a lease."""
        for handle in self.do(self.redis.zrange(Q.lease, 0, -1)):
            self.do(self.redis.zadd(Q.lease, {handle: 1}))

    @rule()
    def delays_pass(self) -> None:
        """Every delayed job falls due."""
        for member in self.do(self.redis.zrange(Q.delayed, 0, -1)):
            self.do(self.redis.zadd(Q.delayed, {member: 1}))

    @rule()
    def tend(self) -> None:
        """Some worker looks after the queue."""
        self.do(self.store.tend(self.redis, Q))

    @rule()
    def leases_vanish(self) -> None:
        """Somebody deletes the leases."""
        self.do(self.redis.delete(Q.lease))

    # -- what must always hold

    async def bodies(self) -> list[str]:
        raws: list[bytes] = []
        for name in Q.ready:
            raws += await self.redis.lrange(name, 0, -1)
        raws += await self.redis.zrange(Q.delayed, 0, -1)
        raws += await self.redis.hvals(Q.claimed)
        return [json.loads(decode(raw).body)["id"] for raw in raws]

    @invariant()
    def no_job_is_lost(self) -> None:
        """Every id that was pushed is in the queue's hands or answered."""
        waiting = set(self.do(self.bodies()))
        for job_id in self.pushed - waiting:
            assert self.do(self.redis.exists(Q.result(job_id))), f"{job_id} is nowhere"

    @invariant()
    def an_answer_stands(self) -> None:
        """A result that is there is never replaced: nobody else's late one, no second run's."""
        for job_id in self.pushed:
            raw = self.do(self.redis.get(Q.result(job_id)))
            if raw is not None:
                assert self.answers.setdefault(job_id, raw) == raw

    @invariant()
    def nothing_starts_that_is_answered(self) -> None:
        """A claim that was let run isn't for an id that had its answer then; twins never run side by side."""
        live = [job_id for claim, job_id in self.claims if self.do(self.redis.hexists(Q.claimed, claim.handle))]
        assert len(live) == len(set(live))


def test_queue_states(redis_url: str) -> None:
    """No order of pushes, claims, lost replies, late settlements, lapses, deaths and repeats loses or doubles a job."""
    QueueMachine.url = redis_url
    run_state_machine_as_test(
        QueueMachine,
        settings=settings(
            max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
