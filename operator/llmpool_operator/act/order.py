"""Two orders of pods: whom we would have go, and whom a ReplicaSet takes (``ActivePodsWithRanks`` of its controller).

A ReplicaSet takes pods without a node first, then pending ones, then those that aren't ready, whatever their cost. Only
among equals of all that it looks at ``pod-deletion-cost``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from llmpool_contract import WorkerReport
from llmpool_operator.pods import Pod

_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


def taken_first(cost: Callable[[Pod], int]) -> Callable[[Pod], tuple[float, ...]]:
    """A sort key: the pods that a ReplicaSet deletes first come first. ``cost`` may tell of one not yet written.

    Left out is how many pods share a node: it only tells pods apart that are equal in all that counts here.
    """

    def key(pod: Pod) -> tuple[float, ...]:
        return (
            pod.assigned,
            _PHASES.get(pod.phase, 1),
            pod.ready,
            cost(pod),
            -pod.ready_since if pod.ready else 0,
            -pod.restarts,
            -pod.created,
        )

    return key


def needs_no_drain(pod: Pod, report: WorkerReport | None, *, told: bool, now: float, patience: float) -> bool:
    """Whether a pod has no work that could be cut.

    It has no process yet; or never was ready and never reported (``told``: reports could be read, so that none is
    none); or has been unready and silent for ``patience`` seconds, as long as any drain gets.
    """
    if report is not None:
        return False
    if not pod.begun:
        return True
    silent = told and not pod.ready
    return silent and (not pod.ever_ready or (pod.ready_since > 0 and now - pod.ready_since >= patience))


def chosen_first(
    reports: Mapping[str, WorkerReport], free: set[str], given_up: set[str], draining: set[str]
) -> Callable[[Pod], tuple[float, ...]]:
    """A sort key: the pods that should go first come first.

    Those without work; those whose drain has run out, and the unready ones, which a ReplicaSet takes before any other;
    then who drains already, then the idlest, the youngest among equals. A pod without a fresh report is unknown, not
    idle: it comes last.
    """

    def key(pod: Pod) -> tuple[float, ...]:
        report = reports.get(pod.name)
        if pod.name in free:
            kind = 0
        elif pod.name in given_up or (report is not None and not pod.ready):
            kind = 1
        else:
            kind = 3 if report is None else 2
        load = 0 if report is None else report.in_flight
        return (kind, pod.name not in draining, load, -pod.created)

    return key
