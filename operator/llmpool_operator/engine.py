"""One pool's turn: look, decide, act, tell. The same for every target."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from llmpool_contract.pool import LLMWorkerPoolSpec

from .decide import decide, record_scale, resumed, rules_of
from .decide.types import Decision, History, Missing
from .targets.base import Sighting, Size, Target, TargetError, Turn

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
            size = await self.target.size()
        except TargetError as error:
            return Turn(now, Missing(error.reason), sighting, decision=None, failure=error)
        if isinstance(size, Missing):
            return Turn(now, size, sighting, decision=None)
        found = self._found(size, now)
        self._mind_the_gap(now)
        decision = decide(self.spec, size.intended, sighting.observation, self.history, now)
        # Remembered even if acting fails; but a change that did not happen must not count against the rate policies.
        self.history = decision.history
        return await self._act(size, decision, sighting, now, found)

    def _mind_the_gap(self, now: float) -> None:
        """Readings between decisions (a target that couldn't be read, a pool that waited) were looked at by nobody."""
        before, self._decided_at = self._decided_at, now
        if before is not None and not 0 <= now - before <= _LONGEST_GAP:
            self.history = replace(self.history, empty_since=None)

    def _found(self, size: Size, now: float) -> tuple[int, int] | None:
        """Take up the size as it is found: after a restart, or changed by somebody else."""
        if self.resuming:
            self.history = resumed(self.history, size.intended, now, rules_of(self.spec.scaling.behavior))
            self.resuming = False
        before, self._intended = self._intended, size.intended
        if before is None or before == size.intended:
            return None
        self.history = record_scale(self.history, now, size.intended - before)
        return before, size.intended

    async def _act(
        self, size: Size, decision: Decision, sighting: Sighting, now: float, found: tuple[int, int] | None
    ) -> Turn:
        failure: TargetError | None = None
        try:
            await self.target.resize(decision.replicas)
        except TargetError as error:
            if not error.sized:
                return Turn(now, size, sighting, decision, found=found, failure=error)
            failure = error
        self._intended = decision.replicas
        if decision.replicas == size.intended:
            return Turn(now, size, sighting, decision, found=found, failure=failure)
        self.history = record_scale(self.history, now, decision.replicas - size.intended)
        resized = size.intended, decision.replicas
        return Turn(now, size, sighting, decision, found=found, resized=resized, failure=failure)
