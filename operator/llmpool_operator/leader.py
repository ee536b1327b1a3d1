"""Leader election: keeps a Lease (coordination.k8s.io/v1) and says whether this process may write.

Not ``kubernetes.aio.leaderelection``: see docs/decisions/0014-an-election-of-our-own.md.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import Callable
from typing import Protocol

import structlog

from .election import Candidate, Terms, first_transition
from .kube import APIError, Object, collection

log = structlog.get_logger(__name__)
_API = "coordination.k8s.io/v1"
_RELEASE_PATIENCE = 1.0
"""Seconds that giving the lease back may take; without it the next leader waits for its end."""
_SOON = 0.1
"""Seconds to the next call where the last one's answer asks for one; never none, so that nothing spins."""
_LONGEST_PAUSE = 12.0
"""Seconds; well below what ``/healthz`` takes for a standstill."""
_MAX_NAME = 63


class LeadershipLost(Exception):
    """The lease is another's, or could not be renewed in time. The process must end: its view may be old."""


class LeaseAPI(Protocol):
    """The calls that an election needs; they raise :class:`APIError`."""

    async def get(self, path: str) -> Object:
        """Read."""

    async def create(self, path: str, body: Object) -> Object:
        """POST."""

    async def merge(self, path: str, body: Object) -> Object:
        """JSON merge patch; a resource version in its metadata is a precondition."""


class Leadership(Protocol):
    """What the rest of the operator needs of an election, or of its absence."""

    @property
    def leading(self) -> bool:
        """Whether this process may write now."""

    @property
    def age(self) -> float:
        """Seconds since the election's last turn ended."""

    @property
    def holder(self) -> str:
        """Who leads, as far as is known; empty: nobody."""

    def transition(self) -> int:
        """The fencing number: a later leader's is higher. Meaningful while leading."""

    async def leads(self) -> None:
        """Wait until this process leads."""

    async def run(self) -> None:
        """Work until cancelled. Raises :class:`LeadershipLost`."""

    async def release(self) -> None:
        """Let the next one begin at once. For after the last write."""


def now_also_asleep() -> float:
    """Monotonic seconds that go on while the machine sleeps, where the system has such a clock."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def own_identity() -> str:
    """Of this process and no other: a container that starts again has its predecessor's host name."""
    return f"{socket.gethostname()[:_MAX_NAME]}_{secrets.token_hex(6)}"


class Unelected:
    """The election is off: this process leads."""

    leading = True
    age = 0.0
    holder = "this process: the election is off"

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._transition = first_transition(wall())

    def transition(self) -> int:
        """As of its start, so that one that was started later comes after it."""
        return self._transition

    async def leads(self) -> None:
        """At once."""

    async def run(self) -> None:
        """Nothing to do."""
        await asyncio.Event().wait()

    async def release(self) -> None:
        """Nothing to give back."""


class Leader:
    """Campaigns for one Lease and then keeps it. ``failed`` hears the kind of each call that failed."""

    def __init__(
        self,
        api: LeaseAPI,
        *,
        namespace: str,
        name: str,
        terms: Terms,
        identity: str,
        failed: Callable[[str], None],
        clock: Callable[[], float] = now_also_asleep,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._leases = collection(namespace, "leases", _API)
        self._path = f"{self._leases}/{name}"
        self._name = name
        self._state = Candidate(identity, terms)
        self._terms = terms
        self._failed = failed
        self._clock = clock
        self._wall = wall
        self._led = asyncio.Event()
        self._turned_at = clock()
        self._told = ""
        """The failure that the log has; the same one again is not said again."""
        self._stands_by_for = ""
        self._pause = _SOON
        """Grows while it isn't known where the API server is."""

    @property
    def leading(self) -> bool:
        """Whether this process may write now: judged anew each time, since it may just have been stopped for long."""
        return self._state.leads(self._clock())

    @property
    def age(self) -> float:
        """Seconds since the last turn ended, whatever came of it."""
        return self._clock() - self._turned_at

    @property
    def holder(self) -> str:
        """Who held the Lease when it was last seen."""
        return self._state.holder

    def transition(self) -> int:
        """The Lease's ``leaseTransitions`` as this process wrote it."""
        return self._state.transition

    async def leads(self) -> None:
        """Wait until this process leads for the first time; it does so until it ends."""
        await self._led.wait()

    async def run(self) -> None:
        """Campaign, then keep the lease.

        Raises:
            LeadershipLost: led, and does so no more.
        """
        while not self.leading:
            pause = await self.campaign()
            self._turned_at = self._clock()
            if not self.leading:
                await asyncio.sleep(pause)
        log.info("leading", lease=self._name, identity=self._state.identity, transition=self._state.transition)
        self._led.set()
        pause = self._state.renewal_in(self._clock())
        while True:
            await asyncio.sleep(max(0.0, min(pause, self._state.until - self._clock())))
            pause = await self.renew()
            self._turned_at = self._clock()

    async def campaign(self) -> float:
        """One look, and a claim if the lease is free. Gives the seconds to the next look."""
        retry = self._terms.retry
        try:
            async with asyncio.timeout(self._terms.call):
                await self._look()
            free_in = self._state.free_in(self._clock())
            if free_in > 0:
                self._tell_stand_by()
                return min(retry, free_in)
            await self._claim()
        except (APIError, TimeoutError) as error:
            if isinstance(error, APIError) and error.status == 409:
                return _SOON  # somebody was faster: see who
            self._tell_failure(error)
            if isinstance(error, APIError) and error.unconfigured:
                self._pause = min(2 * self._pause, _LONGEST_PAUSE)
                return max(retry, self._pause)
        self._pause = _SOON
        return retry

    async def renew(self) -> float:
        """One renewal. Gives the seconds to the next one, which comes sooner where this one failed.

        Raises:
            LeadershipLost: at the deadline, or where the lease has another holder.
        """
        began = self._clock()
        if not self._state.leads(began):
            raise LeadershipLost(
                f"not renewed for {self._terms.deadline:g} s: {self._told or 'the process stood still'}"
            )
        try:
            await self._claim()
        except (APIError, TimeoutError) as error:
            return await self._after(error)
        return self._state.renewal_in(self._clock())

    async def _after(self, error: APIError | TimeoutError) -> float:
        """A renewal failed. A conflict may be our own write whose answer was lost: the lease says whose it is."""
        try:
            if isinstance(error, APIError) and error.status in (404, 409):
                async with asyncio.timeout(self._terms.call):
                    await self._look()
                if self._state.lease is not None and self._state.holder != self._state.identity:
                    self._state.until = float("-inf")
                    raise LeadershipLost(f"{self._state.holder or 'nobody'} holds the lease now")
                return _SOON
        except (APIError, TimeoutError) as another:
            error = another
        self._tell_failure(error)
        return self._terms.retry / 2

    async def _look(self) -> None:
        try:
            lease = await self._api.get(self._path)
        except APIError as error:
            if error.status != 404:
                raise
            lease = None
        self._state.saw(lease, self._clock())

    async def _claim(self) -> None:
        """Write the lease on condition that it is as it was last seen."""
        began = self._clock()
        spec, held = self._state.claim(self._wall()), self._state.lease
        async with asyncio.timeout(self._terms.call):
            if held is None:
                body = {"apiVersion": _API, "kind": "Lease", "metadata": {"name": self._name}, "spec": spec}
                lease = await self._api.create(self._leases, body)
            else:
                lease = await self._api.merge(self._path, {"metadata": _as_seen(held), "spec": spec})
        self._state.won(lease, began)
        if self._told:
            log.info("lease reached again", lease=self._name)
            self._told = ""

    async def release(self) -> None:
        """Give it back if it is ours; failing that, it runs out."""
        held = self._state.lease
        if not self.leading or held is None:
            return
        self._state.until = float("-inf")
        try:
            async with asyncio.timeout(_RELEASE_PATIENCE):
                await self._api.merge(self._path, {"metadata": _as_seen(held), "spec": self._state.returned()})
        except (APIError, TimeoutError) as error:
            log.warning("lease not given back", lease=self._name, error=_words(error))
        else:
            log.info("lease given back", lease=self._name)

    def _tell_stand_by(self) -> None:
        if self._stands_by_for != self._state.awaited:
            self._stands_by_for = self._state.awaited
            log.info("standing by", lease=self._name, leader=self._state.awaited)
        self._told = ""

    def _tell_failure(self, error: APIError | TimeoutError) -> None:
        self._failed("Lease")
        words = _words(error)
        if words != self._told:
            self._told = words
            log.warning("lease not reached", lease=self._name, error=words, leading=self.leading)


def _as_seen(lease: Object) -> Object:
    return {"uid": lease["metadata"]["uid"], "resourceVersion": lease["metadata"]["resourceVersion"]}


def _words(error: APIError | TimeoutError) -> str:
    return str(error) if isinstance(error, APIError) else "no answer in time"
