"""One circuit breaker: calls that would fail aren't made. Pure: time is a parameter, monotonic seconds, and chance a
function.

Closed, calls pass and are counted. Open, none passes until its time. Half-open, a few probes decide: all of them good,
it closes; one bad, it opens for longer. The rules are those of resilience4j's ``CircuitBreakerConfig`` (window, failure
and slow-call rate, bounded probes) beside a count of failures in a row.
"""

from __future__ import annotations

from collections.abc import Callable

from .breaker_types import BreakerRules, Open, Outcome, Reading, State, Tally
from .windows import SlidingCounts

RECHECK_S = 1.0
"""The least wait while a probe is under way, seconds."""


class Permit:
    """Leave for one call. Its first outcome counts, if the breaker is as it was then; further ones don't."""

    __slots__ = ("_settle", "generation")

    def __init__(self, settle: Callable[[Permit, Outcome, float], None] | None, generation: int = 0) -> None:
        self._settle, self.generation = settle, generation

    def end(self, outcome: Outcome, now: float) -> None:
        """The call ended so."""
        settle, self._settle = self._settle, None
        if settle is not None:
            settle(self, outcome, now)


class Breaker:
    """The state machine. ``changed`` hears of every new state, with its reason."""

    def __init__(
        self, rules: BreakerRules, chance: Callable[[], float], changed: Callable[[State, str], None] | None = None
    ) -> None:
        self.rules = rules
        self.state = State.CLOSED
        self._chance, self._changed = chance, changed
        self._reason = ""
        self._generation = 0
        self._consecutive = 0
        self._window = SlidingCounts(rules.window_s, kinds=Outcome.IGNORED) if rules.window_s else None
        self._openings = 0
        self._until = 0.0
        self._probes: dict[Permit, float] = {}
        self._passed = 0

    def blocked(self, now: float) -> Open | None:
        """Why no call may begin now. Takes no permit."""
        match self.state:
            case State.CLOSED:
                return None
            case State.FORCED_OPEN:
                return Open(now + self.rules.open_s, self._reason)
            case State.OPEN if now < self._until:
                return Open(self._until, self._reason)
            case State.HALF_OPEN:
                return self._blocked_by_probes(now)
        return None

    def _blocked_by_probes(self, now: float) -> Open | None:
        self._probes = {permit: began for permit, began in self._probes.items() if not self._is_lost(began, now)}
        if len(self._probes) < self.rules.probes - self._passed:
            return None
        # Asked again after as long as the probe has taken so far: a long answer isn't asked after every second.
        taken_s = now - min(self._probes.values())
        return Open(now + min(max(taken_s, RECHECK_S), self.rules.open_s), f"a probe is under way ({self._reason})")

    def _is_lost(self, began: float, now: float) -> bool:
        """Whether a probe's place is free again, and its outcome past counting."""
        return now - began >= self.rules.probe_max_age_s

    def allow(self, now: float) -> Permit | Open:
        """Leave for one call that begins now, or why not."""
        return self.blocked(now) or self.admit(now)

    def admit(self, now: float) -> Permit:
        """Leave for one call that begins now. Only where :meth:`blocked` has just answered None."""
        if self.state is State.OPEN:
            self._enter(State.HALF_OPEN, self._reason)
        permit = Permit(self._settle, self._generation)
        if self.state is State.HALF_OPEN:
            self._probes[permit] = now
        return permit

    def _settle(self, permit: Permit, outcome: Outcome, now: float) -> None:
        """What a permit reports. A call of an earlier generation says nothing of the server as it is now."""
        if permit.generation != self._generation:
            return
        if self.state is State.CLOSED:
            self._count(outcome, now)
        elif (began := self._probes.pop(permit, None)) is not None and not self._is_lost(began, now):
            self._judge(outcome, now)

    def _count(self, outcome: Outcome, now: float) -> None:
        if outcome is Outcome.IGNORED:
            return
        self._consecutive = self._consecutive + 1 if outcome is Outcome.FAILURE else 0
        if self._window is not None:
            self._window.add(now, outcome)
        if outcome is not Outcome.SUCCESS and (reason := self._why_open(now)):  # a good answer never opens it
            self._open(now, reason)

    def _judge(self, outcome: Outcome, now: float) -> None:
        match outcome:
            case Outcome.SUCCESS:
                self._passed += 1
                if self._passed >= self.rules.probes:
                    self._close()
            case Outcome.SLOW | Outcome.FAILURE:
                self._open(now, f"a probe {'was slow' if outcome is Outcome.SLOW else 'failed'}")

    def _why_open(self, now: float) -> str:
        """The reason to open, or empty."""
        if self._consecutive >= self.rules.threshold:
            return f"{self._consecutive} failures in a row"
        rules, counts = self.rules, self._tally(now)
        if counts is None or counts.calls < rules.min_calls:
            return ""
        of_all = f"of {counts.calls} calls within {rules.window_s:g} s"
        if counts.failed / counts.calls >= rules.failure_rate:
            return f"{counts.failed} {of_all} failed"
        if rules.slow_call_s is not None and counts.slow / counts.calls >= rules.slow_rate:
            return f"{counts.slow} {of_all} took more than {rules.slow_call_s:g} s"
        return ""

    def _tally(self, now: float) -> Tally | None:
        """None: no window is kept."""
        return None if self._window is None else Tally.of(self._window.totals(now))

    def _open(self, now: float, reason: str) -> None:
        self._until = now + self.rules.open_time_s(self._openings, self._chance())
        self._openings += 1
        self._enter(State.OPEN, reason)

    def _close(self) -> None:
        self._consecutive = self._openings = 0
        if self._window is not None:
            self._window.clear()
        self._enter(State.CLOSED, "")

    def force_open(self, reason: str) -> None:
        """Let nothing pass until :meth:`release`."""
        self._enter(State.FORCED_OPEN, reason)

    def release(self) -> None:
        """Undo :meth:`force_open`: probes decide."""
        if self.state is State.FORCED_OPEN:
            self._enter(State.HALF_OPEN, self._reason)

    @property
    def quiet(self) -> bool:
        """Closed, and the last call was no failure: nothing much is lost with it."""
        return self.state is State.CLOSED and self._consecutive == 0

    def reading(self, now: float) -> Reading:
        """What there is to show."""
        counts = self._tally(now)
        known = counts if counts is not None and counts.calls else None
        blocked = self.blocked(now)
        return Reading(
            state=self.state,
            reason=self._reason,
            consecutive=self._consecutive,
            calls=counts.calls if counts is not None else None,
            failure_rate=known.failed / known.calls if known else None,
            slow_rate=known.slow / known.calls if known else None,
            wait_s=blocked.until - now if blocked else None,
        )

    def _enter(self, state: State, reason: str) -> None:
        self.state, self._reason = state, reason
        self._generation += 1
        self._probes.clear()
        self._passed = 0
        if self._changed is not None:
            self._changed(state, reason)
