"""The claim script's choice held to a twin of it in Python, on a real Redis, and to what the choice promises."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmpool_worker.queue.connections import Connections
from llmpool_worker.queue.store import Claimed
from tests.support.claiming import Q, embed, job, make_store, names, waiting

BATCH = 3


@dataclass(frozen=True)
class Entry:
    """A job in the list, as the choice sees it."""

    name: str
    model: str
    tenant: str
    cost: int

    @property
    def body(self) -> bytes:
        owner: dict[str, Any] = {"tenant": self.tenant} if self.tenant else {}
        if self.cost == BATCH:
            return job(self.name, self.model, **owner)
        return embed(self.name, self.cost, self.model, **owner)


@dataclass
class Twin:
    """The choice, written for reading: one job after the other, always of the tenant that was served longest ago."""

    units: int
    caps: dict[str, int] | None
    allowed: dict[str, int]
    served: dict[str, float]
    taken: list[str] = field(default_factory=list)
    limited: list[str] = field(default_factory=list)
    passed: set[str] = field(default_factory=set)

    def choose(self, entries: list[Entry]) -> None:
        """All of a window."""
        queues = {entry.tenant: [e for e in entries if e.tenant == entry.tenant] for entry in entries}
        turns = {tenant: self.served.get(tenant, 0.0) for tenant in queues}
        while any(queues.values()):
            tenant = min((t for t in queues if queues[t]), key=lambda t: turns[t])
            queue = queues[tenant]
            while queue:
                if self.take(queue.pop(0)):
                    turns[tenant] = 9e15 + len(self.taken)
                    break

    def take(self, entry: Entry) -> bool:
        """Whether this one may be taken; counted where it is."""
        cap = self.cap_of(entry)
        if self.allowed.get(entry.tenant, 1) < 1:
            self.limited.append(entry.name)
        elif cap is None:
            self.passed.add(entry.model)
        elif self.units < entry.cost:
            self.units = 0
        elif self.caps is not None and self.caps[cap] < entry.cost:
            self.caps[entry.model] = 0
        else:
            self.count(entry, cap)
            return True
        return False

    def cap_of(self, entry: Entry) -> str | None:
        """The name under which its places are counted; None: its model isn't open."""
        if self.caps is None or entry.model in self.caps:
            return entry.model
        return "*" if "*" in self.caps else None

    def count(self, entry: Entry, cap: str) -> None:
        self.units -= entry.cost
        if self.caps is not None:
            self.caps[cap] -= entry.cost
        if entry.tenant in self.allowed:
            self.allowed[entry.tenant] -= 1
        self.taken.append(entry.name)


MODELS = ("m:latest", "n:latest", "o:latest")
TENANTS = ("a", "b", "c")


@st.composite
def windows(draw: st.DrawFn) -> list[Entry]:
    """Up to 40 jobs; the first one is a tenant's, so that the script looks at the window as a whole."""
    size = draw(st.integers(1, 40))
    rows = draw(
        st.lists(
            st.tuples(st.sampled_from(MODELS), st.sampled_from(("", *TENANTS)), st.integers(1, BATCH)),
            min_size=size,
            max_size=size,
        )
    )
    rows[0] = (rows[0][0], "a", rows[0][2])
    return [Entry(f"{number}", *row) for number, row in enumerate(rows)]


CAPS = st.none() | st.dictionaries(st.sampled_from((*MODELS, "*")), st.integers(0, 30), min_size=1)
LIMITS = st.dictionaries(st.sampled_from(TENANTS), st.integers(1, 6), max_size=2)
SERVED = st.dictionaries(st.sampled_from(("", *TENANTS)), st.integers(1, 5))


async def claimed_of(
    url: str, entries: list[Entry], twin: Twin, limits: dict[str, int]
) -> tuple[Claimed, list[str], list[str]]:
    """What one call takes, what it leaves and what it holds back."""
    connections = Connections(url)
    redis = connections.once()
    try:
        await redis.flushall()
        await redis.rpush(Q.normal, *[entry.body for entry in entries])
        if twin.served:
            await redis.zadd(Q.turns, twin.served)
        store = make_store(slot_units=BATCH, tenants={tenant: {"j": limit} for tenant, limit in limits.items()})
        found = await store.claim(redis, Q, "t", twin.units, caps=twin.caps)
        held = await redis.zrange(Q.delayed, 0, -1)
        return found, await waiting(redis), [json.loads(raw[raw.index(b"{") :])["id"] for raw in held]
    finally:
        await connections.aclose()


@given(entries=windows(), units=st.integers(1, 60), caps=CAPS, limits=LIMITS, served=SERVED)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_script_chooses_as_its_twin(
    redis_url: str,
    entries: list[Entry],
    units: int,
    caps: dict[str, int] | None,
    limits: dict[str, int],
    served: dict[str, float],
) -> None:
    """The same jobs in the same order; what stays is in its old order; and the promises hold."""
    twin = Twin(units, None if caps is None else dict(caps), dict(limits), served)
    found, left, held = asyncio.run(claimed_of(redis_url, entries, twin, limits))
    twin.choose(entries)
    taken = names(found)
    assert taken == twin.taken
    assert (set(held), set(found.passed)) == (set(twin.limited), twin.passed)
    assert left == [entry.name for entry in entries if entry.name not in {*taken, *held}]
    within_bounds(entries, taken, units, caps, limits)
    in_order(entries, taken)
    alternating(entries, taken, left, caps, units)


def within_bounds(
    entries: list[Entry], taken: list[str], units: int, caps: dict[str, int] | None, limits: dict[str, int]
) -> None:
    """Never more than the units wanted, a model's places or a tenant's limit."""
    chosen = [entry for entry in entries if entry.name in taken]
    assert sum(entry.cost for entry in chosen) <= units
    for model, places in (caps or {}).items():
        named = [e.cost for e in chosen if e.model == model or (model == "*" and e.model not in (caps or {}))]
        assert sum(named) <= places
    for tenant, limit in limits.items():
        assert sum(1 for entry in chosen if entry.tenant == tenant) <= limit


def in_order(entries: list[Entry], taken: list[str]) -> None:
    """Among a tenant's jobs of one model the older goes first, and none is left behind a younger one."""
    chosen = [next(entry for entry in entries if entry.name == name) for name in taken]
    for entry in chosen:
        same = [e.name for e in entries if (e.tenant, e.model) == (entry.tenant, entry.model)]
        got = [e.name for e in chosen if (e.tenant, e.model) == (entry.tenant, entry.model)]
        assert got == same[: len(got)]


def alternating(
    entries: list[Entry], taken: list[str], left: list[str], caps: dict[str, int] | None, units: int
) -> None:
    """Between two jobs of a tenant each other one that has some left has one, where any may be taken; and no unit that
    the next one could use stays free."""
    if caps is not None:
        return
    by_name = {entry.name: entry for entry in entries}
    if left:
        assert units - sum(by_name[name].cost for name in taken) < BATCH
    counts = {tenant: sum(1 for name in taken if by_name[name].tenant == tenant) for tenant in ("", *TENANTS)}
    for tenant in {by_name[name].tenant for name in left}:
        assert counts[tenant] >= max(counts.values()) - 1
