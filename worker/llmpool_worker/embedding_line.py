"""Whose inputs go into a model's next embedding call, and when. Pure: time is a parameter, monotonic seconds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

J = TypeVar("J", bound=Hashable)


@dataclass(slots=True)
class _Place:
    """A job in the line: which of its inputs is next, and how many it may still give in this turn."""

    next: int
    inputs: int
    turn: int
    alone: bool

    @property
    def left(self) -> int:
        return self.inputs - self.next


class Line(Generic[J]):
    """The jobs that wait for calls of one model, in the order of their turns.

    A turn is at most one call's worth of inputs; a job with more goes to the end of the line for the rest. So jobs of a
    few inputs are served in the order they came, a long one holds each of them up for one call only, and none starves
    (deficit round robin, Shreedhar and Varghese 1995, with a call as the quantum).
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._places: OrderedDict[J, _Place] = OrderedDict()
        self._inputs = 0
        self._alone = 0
        self._since = 0.0
        """When the line was last begun."""

    def __len__(self) -> int:
        """Inputs that wait."""
        return self._inputs

    def add(self, job: J, inputs: int, now: float, *, alone: bool = False) -> None:
        """A job with at least one input joins at the end. ``alone``: it shares no call with another job."""
        if not self._places:
            self._since = now
        self._places[job] = _Place(0, inputs, self._size, alone)
        self._inputs += inputs
        self._alone += alone

    def leave(self, job: J) -> None:
        """What a job has not given yet is no longer wanted. Nothing happens where there is none."""
        if place := self._places.pop(job, None):
            self._inputs -= place.left
            self._alone -= place.alone

    def due(self, now: float, gather_s: float, *, more_expected: bool) -> float:
        """When the next call is to go, if one may: ``now``, or the time until which others may still join it.

        Nobody joins a full call, or one that a job has for itself; and where nothing more is expected, waiting is vain.
        The wait counts from when the line was begun: those whom the last call left behind have waited for it already.
        """
        if self._inputs >= self._size or self._alone or not more_expected:
            return now
        return max(now, self._since + gather_s)

    def take(self) -> list[tuple[J, int]]:
        """The next call's inputs as (job, index of its input), at most ``size``; none where nobody waits."""
        taken: list[tuple[J, int]] = []
        while self._places and len(taken) < self._size:
            job, place = next(iter(self._places.items()))
            if place.alone and taken:
                break  # the call after this one is its own
            count = min(self._size - len(taken), place.turn, place.left)
            taken += [(job, index) for index in range(place.next, place.next + count)]
            self._give(job, place, count)
            if place.alone:
                break
        return taken

    def _give(self, job: J, place: _Place, count: int) -> None:
        self._inputs -= count
        place.next += count
        place.turn -= count
        if place.left == 0:
            self.leave(job)
        elif place.turn == 0:
            place.turn = self._size
            self._places.move_to_end(job)
