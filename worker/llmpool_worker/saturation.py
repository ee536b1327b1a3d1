"""How many jobs run at once while the model server is busy with others: background work yields. Pure: time is a
parameter, monotonic seconds.

What is seen of the server (the wait for a slot in it, the time to the first token, the requests that wait there) is
held against a limit for each. Two readings in a row beyond it halve our concurrency; calm ones give it back one by one
(additive increase, multiplicative decrease, as in TCP's congestion control, RFC 5681).

Our own load must not look like somebody else's. So readings of requests that began before the last change don't count,
nor does anything while more of ours run than are allowed. And where a step up is followed by trouble, the step itself
is the likely cause: it is taken back, nothing more, and the next one waits twice as long.
"""

from __future__ import annotations

from dataclasses import dataclass

IN_A_ROW = 2
"""Readings beyond a limit that make it busy: one may be an outlier."""
CALM = 0.5
"""Calm is a reading of at most this part of its limit. What is between changes nothing."""
STEP_S = 10.0
"""Calm time before a step up, seconds."""
STEP_MAX_S = 80.0
"""The same at most, after steps that had to be taken back."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What counts as busy: readings beyond these. None: not looked at."""

    slot_wait_s: float | None = None
    first_token_s: float | None = None
    waiting: float | None = None
    """Requests that wait in the server."""

    @property
    def any(self) -> bool:
        """Whether there is anything to look at."""
        return any(limit is not None for limit in (self.slot_wait_s, self.first_token_s, self.waiting))


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen. None: not known, which changes nothing."""

    slot_wait_s: float | None = None
    first_token_s: float | None = None
    """Not of a request that had to wait for its model's load."""
    waiting: float | None = None
    began: float | None = None
    """When the request began that tells it, monotonic seconds. None: it is of this moment."""


class _Signal:
    """One kind of reading against its limit, since the last change."""

    def __init__(self, limit: float, text: str) -> None:
        self._limit, self._text = limit, text
        self._last: float | None = None
        self._beyond = 0

    def take(self, value: float) -> None:
        self._last = value
        self._beyond = self._beyond + 1 if value > self._limit else 0

    def forget(self) -> None:
        self._last, self._beyond = None, 0

    @property
    def busy(self) -> bool:
        return self._beyond >= IN_A_ROW

    @property
    def calm(self) -> bool | None:
        """None: nothing was read yet."""
        return None if self._last is None else self._last <= CALM * self._limit

    def __str__(self) -> str:
        return self._text.format(last=self._last, limit=self._limit)


_TEXTS = {
    "slot_wait_s": "requests waited {last:.3g} s for a slot (limit {limit:g} s)",
    "first_token_s": "first tokens took {last:.3g} s (limit {limit:g} s)",
    "waiting": "{last:g} requests wait in the server (limit {limit:g})",
}


class SaturationGate:
    """The concurrency that is allowed now, between ``least`` and ``most``. Without limits always ``most``."""

    def __init__(self, limits: Limits, most: int, least: int = 1) -> None:
        self._least, self._most = min(least, most), most
        self.allowed = most
        self.reason = ""
        """Why fewer than ``most`` are allowed; empty: they aren't."""
        self._signals = {
            name: _Signal(limit, text) for name, text in _TEXTS.items() if (limit := getattr(limits, name)) is not None
        }
        self._changed_at: float | None = None
        self._calm_since: float | None = None
        self._step_s = STEP_S
        self._on_trial = False
        """Whether the last change was a step up that hasn't shown yet to do no harm."""

    def observe(self, now: float, sample: Sample, running: int) -> int:
        """Take a reading in; answers what is allowed from now on. ``running``: our own jobs that run now."""
        began = now if sample.began is None else sample.began
        if running > self.allowed or (self._changed_at is not None and began < self._changed_at):
            return self.allowed
        taken = [signal for name, signal in self._signals.items() if _take(signal, getattr(sample, name))]
        if taken:
            self._decide(now)
        return self.allowed

    def _decide(self, now: float) -> None:
        busy = next((signal for signal in self._signals.values() if signal.busy), None)
        if busy is not None:
            self._yield(now, str(busy))
        elif any(signal.calm is False for signal in self._signals.values()):
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = now
        elif now - self._calm_since >= self._step_s:
            self._stay_calm(now)

    def _yield(self, now: float, reason: str) -> None:
        if self._on_trial:
            self._step_s = min(2 * self._step_s, STEP_MAX_S)
            self._change(now, self.allowed - 1, f"one more was too many: {reason}")
        else:
            self._step_s = STEP_S
            allowed = max(self._least, (self.allowed + 1) // 2)
            self._change(now, allowed, reason if allowed < self._most else "")
        self._on_trial = False

    def _stay_calm(self, now: float) -> None:
        if self._on_trial:  # the last step did no harm
            self._on_trial, self._step_s = False, STEP_S
        if self.allowed < self._most:
            allowed = self.allowed + 1
            self._change(now, allowed, "" if allowed == self._most else "the server is calm again: one more at a time")
            self._on_trial = True

    def _change(self, now: float, allowed: int, reason: str) -> None:
        self.allowed, self.reason = allowed, reason
        self._changed_at, self._calm_since = now, None
        for signal in self._signals.values():
            signal.forget()


def _take(signal: _Signal, value: float | None) -> bool:
    if value is None:
        return False
    signal.take(value)
    return True
