"""Carrying out a plan: each step may be repeated, and a process may die between any two of them."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from llmpool_operator.pods import Pod
from llmpool_operator.targets.base import TargetError

from .plan import Plan


class Hands(Protocol):
    """What a plan needs done. All raise :class:`TargetError`."""

    async def tell(self, hold: frozenset[str], release: frozenset[str]) -> None:
        """Take, renew and take away drain leases, and whatever else workers should hear."""

    async def mark(self, pods: tuple[Pod, ...], *, lowest: bool) -> None:
        """Give pods the lowest deletion cost, or take it from them."""

    async def scale(self, replicas: int) -> None:
        """Ask for so many."""


async def carry_out(plan: Plan, replicas: int, hands: Hands) -> TargetError | None:
    """All steps from ``replicas`` on. Gives a fault that did not stand in the way of the size.

    A pool that grows does so before anything else. For one that shrinks the order is: drains, costs, size.

    Raises:
        TargetError: the size is not what it should be.
    """
    grown = await _tried(hands.scale(plan.replicas)) if plan.replicas > replicas else None
    fault = await _tried(hands.tell(plan.hold, plan.release))
    if grown is not None:  # told all the same: who drains goes on, and needs no API server for it
        raise grown
    if fault is not None and not fault.sized:
        raise fault
    fault = await _tried(hands.mark(plan.unmark, lowest=False)) or fault
    if plan.replicas < replicas:
        await hands.mark(plan.mark, lowest=True)
        await hands.scale(plan.replicas)
    return fault


async def _tried(step: Awaitable[None]) -> TargetError | None:
    try:
        await step
    except TargetError as error:
        return error
    return None
