"""One pool's turn: look, decide, act, tell. The same for every target."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from llmpool_contract.pool import LLMWorkerPoolSpec

from .decide import decide, record_scale, resumed, rules_of
from .decide.types import Decision, History, Missing
from .targets.base import NOT_READ, Found, Sighting, Size, Target, TargetError, Turn

_LONGEST_GAP = 30.0
"""Seconds between two decisions after which nobody can say what came by: emptiness has to be known anew."""


@dataclass(slots=True)
class PoolEngine:
    """Sizes one pool. ``spec`` may be replaced between turns."""

    spec: LLMWorkerPoolSpec
    target: Target
    history: History = field(default_factory=History)
    """What the decisions remember."""
    resuming: bool = False
    """Whether ``history`` was left by another process, so that nobody knows what happened since."""
    _intended: int | None = None
    _decided_at: float | None = None

    async def turn(self, sighting: Sighting, now: float) -> Turn:
        """One turn with a reading that the caller made. ``now`` is Unix seconds, the clock of the history.

        A target that can't be read or resized is part of the turn, and the next turn tries again.

        Raises:
            TargetError: the turn could not be reported.
        """
        turn = await self._decide_and_act(sighting, now)
        await self.target.report(turn)
        return turn

    async def _decide_and_act(self, sighting: Sighting, now: float) -> Turn:
        try:
            size = await self.target.size(sighting, now)
        except TargetError as error:
            return Turn(now, Missing(error.reason), sighting, decision=None, failure=error)
        if isinstance(size, Missing):
            return Turn(now, size, sighting, decision=None)
        self._take_up(size, now)
        self._mind_the_gap(now)
        sighting = _with_pods(sighting, size)
        decision = decide(self.spec, size.intended, sighting.observation, self.history, now)
        # Remembered even if acting fails; but a change that did not happen must not count against the rate policies.
        self.history = decision.history
        turn = await self._act(size, decision, sighting, now)
        return turn if size.found is None else _found(turn, size.found)

    def _mind_the_gap(self, now: float) -> None:
        """Readings between decisions (a target that couldn't be read, a pool that waited) were looked at by nobody."""
        before, self._decided_at = self._decided_at, now
        if before is not None and not 0 <= now - before <= _LONGEST_GAP:
            self.history = replace(self.history, empty_since=None)

    def _take_up(self, size: Size, now: float) -> None:
        """Go on from the size as it is found: after a restart, changed by somebody else, or with drains that lapsed."""
        if self.resuming:
            self.history = resumed(self.history, size.intended, now, rules_of(self.spec.scaling.behavior))
            self.resuming = False
        if self._intended is not None:
            self.history = record_scale(self.history, now, size.intended - self._intended)
        self._intended = size.intended

    async def _act(self, size: Size, decision: Decision, sighting: Sighting, now: float) -> Turn:
        try:
            done = await self.target.resize(decision.replicas)
        except TargetError as error:
            return Turn(now, size, sighting, decision, failure=error)
        self._intended = done.intended
        self.history = record_scale(self.history, now, done.intended - size.intended)
        return Turn(
            now,
            size,
            sighting,
            decision,
            resized=None if done.intended == size.intended else (size.intended, done.intended),
            failure=done.failure,
            draining=done.draining,
            waits=done.waits,
            given_up=done.given_up,
        )


def _with_pods(sighting: Sighting, size: Size) -> Sighting:
    """The sighting with what only the target knows of the pods."""
    seen = sighting.observation
    if not size.unschedulable and isinstance(size.pods, Missing) and not seen.queries:
        return sighting
    seen = replace(seen, pods=size.pods, ready=_ready(size), unschedulable=size.unschedulable)
    return replace(sighting, observation=seen)


def _ready(size: Size) -> int | Missing:
    """The count of a target that doesn't read its pods; where it reads them and can't, there is none."""
    if size.pods != NOT_READ:
        return size.pods if isinstance(size.pods, Missing) else NOT_READ
    return size.ready if size.existing else Missing("there are no pods")


def _found(turn: Turn, found: Found) -> Turn:
    return replace(turn, found=(found.before, found.after), found_by=found.by)
