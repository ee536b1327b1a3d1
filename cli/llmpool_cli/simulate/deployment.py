"""A Deployment that is scaled from outside: whom it ends, and how."""

from __future__ import annotations

from .worker import SimWorker, State
from .world import World


def scale_deployment(world: World, replicas: int, grace: float) -> None:
    """Have so many pods that aren't terminating. A terminating one can't be taken back.

    One that is too many gets SIGTERM: a worker claims no more and finishes what it can within ``grace`` seconds. What
    it then still runs is cut, and comes back to the queue when its lease has ended.
    """
    change = replicas - world.intended
    if change == 0:
        return
    world.record.resized(change)
    world.start(max(change, 0))
    staying = [worker for worker in world.workers if worker.state is not State.LEAVING]
    for worker in sorted(staying, key=_victims_first)[: max(-change, 0)]:
        world.ask_to_leave(worker, world.clock.now + grace, world.lose)


def _victims_first(worker: SimWorker) -> tuple[bool, float]:
    """The ReplicaSet's order (``controller_utils.go``, ActivePodsWithRanks): not ready, then the youngest ready.

    Nobody sets pod-deletion-cost here, and nodes aren't simulated. How busy a pod is plays no part.
    """
    since = worker.born if worker.up_at is None else worker.up_at
    return worker.state is State.UP, -since
