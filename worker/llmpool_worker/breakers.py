"""All circuit breakers of a worker: one for each model on a server, and one for whether the server can be reached.

A server that refuses connections says nothing of its models: when it is back, none of them has to be probed anew. And
it is cheaply asked: a connection, not a generation. So its breaker is open for shorter times than a model's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import NamedTuple

from .breaker import Breaker, Permit
from .breaker_types import BreakerRules, Open, Outcome, Reading, State

MAX_BREAKERS = 1_024
"""Models are named by jobs, so somebody may name many."""
SERVER_OPEN_S = 5.0
"""A server's first open time, seconds; grows up to a model's first one."""


class Key(NamedTuple):
    """Whose breaker. ``model`` None: the server's own."""

    backend: str
    model: str | None = None


class Counts(StrEnum):
    """What a call that failed says, and of whom."""

    FAILURE = "failure"
    """The model failed; the server answered."""
    UNREACHABLE = "unreachable"
    """No connection: says nothing of the model."""
    ANSWERED = "answered"
    """The server answered, and what it said is neither's failure: full, no such model, a request that it refuses."""
    NOTHING = "nothing"
    """Cancelled, out of the job's own time, or never asked."""


_SEEN = {
    Counts.FAILURE: (Outcome.SUCCESS, Outcome.FAILURE),
    Counts.UNREACHABLE: (Outcome.FAILURE, Outcome.IGNORED),
    Counts.ANSWERED: (Outcome.SUCCESS, Outcome.IGNORED),
    Counts.NOTHING: (Outcome.IGNORED, Outcome.IGNORED),
}
"""Outcome for the server's breaker, and for the model's."""


class CallPermit:
    """Leave for one call of a model. Must be ended in one of these ways; a second one is harmless."""

    __slots__ = ("_model", "_rules", "_server")

    def __init__(self, server: Permit, model: Permit, rules: BreakerRules) -> None:
        self._server, self._model, self._rules = server, model, rules

    def connected(self, now: float) -> None:
        """Something came from the server, though the call goes on: it need not be probed any longer."""
        self._server.end(Outcome.SUCCESS, now)

    def success(self, now: float, duration_s: float) -> None:
        """A whole answer. ``duration_s``: until its first piece came. An answer's length is the job's own doing."""
        self._server.end(Outcome.SUCCESS, now)
        self._model.end(self._rules.judged(duration_s), now)

    def failed(self, now: float, counts: Counts = Counts.FAILURE) -> None:
        """No answer."""
        server, model = _SEEN[counts]
        self._server.end(server, now)
        self._model.end(model, now)

    def ignored(self, now: float) -> None:
        """Nothing was learnt."""
        self.failed(now, Counts.NOTHING)


class Breakers:
    """By server and model. ``changed`` hears of every new state, with its reason. Not ``enabled``: every call passes,
    and nothing is counted."""

    def __init__(
        self,
        rules: BreakerRules,
        chance: Callable[[], float],
        changed: Callable[[Key, State, str], None] | None = None,
        *,
        enabled: bool = True,
        most: int = MAX_BREAKERS,
    ) -> None:
        self._enabled = enabled
        self._rules, self._chance, self._changed, self._most = rules, chance, changed, most
        self._server_rules = replace(
            rules, open_s=min(SERVER_OPEN_S, rules.open_s), open_max_s=rules.open_s, slow_call_s=None
        )
        self._breakers: OrderedDict[Key, Breaker] = OrderedDict()
        """Least lately used first."""

    def blocked(self, backend: str, model: str, now: float) -> Open | None:
        """Why a call may not begin now. Takes no permit."""
        if not self._enabled:
            return None
        server, asked = self._blocked(Key(backend), now), self._blocked(Key(backend, model), now)
        if server is None or asked is None:
            return server or asked
        return max(server, asked, key=lambda shut: shut.until)

    def unreachable(self, backend: str, now: float) -> Open | None:
        """Why no call to a server may begin now, whatever the model."""
        return self._blocked(Key(backend), now) if self._enabled else None

    def allow(self, backend: str, model: str, now: float) -> CallPermit | Open:
        """Leave for one call that begins now, or why not: for the server and the model, or for neither."""
        if not self._enabled:
            return CallPermit(Permit(None), Permit(None), self._rules)
        server, asked = self._breaker(Key(backend)), self._breaker(Key(backend, model))
        blocked = [shut for breaker in (server, asked) if (shut := breaker.blocked(now)) is not None]
        if blocked:
            return max(blocked, key=lambda shut: shut.until)
        return CallPermit(server.admit(now), asked.admit(now), self._rules)

    def force_open(self, backend: str, model: str | None, reason: str) -> None:
        """Let nothing pass until :meth:`release`. ``model`` None: to the whole server."""
        self._breaker(Key(backend, model)).force_open(reason)

    def release(self, backend: str, model: str | None) -> None:
        """Undo :meth:`force_open`: probes decide."""
        self._breaker(Key(backend, model)).release()

    def snapshot(self, now: float) -> Mapping[Key, Reading]:
        """All that were asked, for those who show them."""
        return {key: breaker.reading(now) for key, breaker in self._breakers.items()}

    def _blocked(self, key: Key, now: float) -> Open | None:
        breaker = self._breakers.get(key)
        return None if breaker is None else breaker.blocked(now)

    def _breaker(self, key: Key) -> Breaker:
        """The breaker of that key, made where there is none. One too many: the least lately used quiet one goes."""
        if (breaker := self._breakers.get(key)) is not None:
            self._breakers.move_to_end(key)
            return breaker
        if len(self._breakers) >= self._most:
            quiet = next((k for k, b in self._breakers.items() if b.quiet and k.model is not None), None)
            del self._breakers[quiet or next(iter(self._breakers))]
        rules = self._rules if key.model is not None else self._server_rules
        breaker = self._breakers[key] = Breaker(rules, self._chance, self._told_of(key))
        return breaker

    def _told_of(self, key: Key) -> Callable[[State, str], None] | None:
        if (changed := self._changed) is None:
            return None
        return lambda state, reason: changed(key, state, reason)
