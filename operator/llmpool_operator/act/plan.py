"""Which steps bring a Deployment from its replicas to a wanted size without cutting anybody's work. Pure.

Nothing is remembered from one plan to the next but :mod:`.drains`: each is made anew from what is there, so that a plan
that was carried out in part, or by a process that died, is simply the beginning of the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from llmpool_contract import WorkerReport
from llmpool_operator.decide.types import Missing
from llmpool_operator.pods import LOWEST_COST, Pod

from .drains import Drains, is_drained, is_given_up
from .order import chosen_first, needs_no_drain, taken_first

_NAMED = 3
"""Workers that a sentence names; of more it says how many."""


@dataclass(frozen=True)
class Scene:
    """What there is at one moment."""

    replicas: int
    """What the Deployment asks for."""
    created: int
    """Pods that its ReplicaSets have made, by its status: the view of pods may lag behind, or this one."""
    pods: tuple[Pod, ...] | Missing
    reports: Mapping[str, WorkerReport] | Missing
    """The fresh ones."""
    drains: Drains
    """Those that hold now."""
    redis_ms: int | None
    """Redis' clock. None: it can't be read, so that nobody can be asked to drain."""
    patience: float
    """Seconds that a worker gets to drain."""
    now: float
    """Unix seconds."""
    rollout: str | None = None
    """Why no single pod may be chosen: ReplicaSets are changing places. None: they aren't."""
    unsettled: str | None = None
    """Why the next step must wait for a moment: an earlier one isn't taken up yet. None: it is."""

    @cached_property
    def standing(self) -> tuple[Pod, ...]:
        """The pods that the present ``replicas`` leave, those that a ReplicaSet would take first first."""
        if isinstance(self.pods, Missing):
            return ()
        active = sorted((pod for pod in self.pods if pod.active), key=taken_first(lambda pod: pod.cost))
        if self.rollout is not None:  # there may be more for a while, and others go than by this order
            return tuple(active)
        return tuple(active[max(0, len(active) - self.replicas) :])

    @cached_property
    def doomed(self) -> frozenset[str]:
        """Pods that an earlier step has given away, and that aren't deleted yet."""
        if isinstance(self.pods, Missing):
            return frozenset()
        return frozenset(pod.name for pod in self.pods if pod.active) - {pod.name for pod in self.standing}

    @cached_property
    def absent(self) -> int:
        """Pods that are asked for and not made yet: nothing is lost with them."""
        if isinstance(self.pods, Missing):
            return 0
        active = len(self.standing) + len(self.doomed)
        return max(0, self.replicas - max(active, self.created))

    @property
    def leaving(self) -> int:
        """Workers that are on their way out and still counted by ``replicas``."""
        if isinstance(self.pods, Missing) or not self.drains:  # of unknown pods nobody knows whose drains they are
            return 0
        return sum(pod.name in self.drains for pod in self.standing)

    def drained(self, pod: Pod) -> bool:
        """Whether its worker has said that it holds nothing."""
        drain = self.drains.get(pod.name)
        return drain is not None and is_drained(drain, _report(self.reports, pod))

    def given_up(self, pod: Pod) -> bool:
        """Whether its worker had all the time there is."""
        drain = self.drains.get(pod.name)
        return (
            drain is not None
            and self.redis_ms is not None
            and is_given_up(drain, self.redis_ms, int(self.patience * 1000))
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps, in the order of their fields for a pool that shrinks; one that grows has its replicas first."""

    hold: frozenset[str]
    """Workers to drain: the leases to take or to renew."""
    release: frozenset[str]
    """Workers that go on, and drains of pods that are gone: the leases to take away."""
    mark: tuple[Pod, ...]
    """Pods to get the lowest deletion cost."""
    unmark: tuple[Pod, ...]
    """Pods to lose it."""
    replicas: int
    """What to ask for then."""
    waits: tuple[str, ...] = ()
    """What it waits for, a sentence each."""
    given_up: int = 0
    """Workers that this step lets go without their word that they hold nothing: their time to drain is over."""


def make_plan(scene: Scene, wanted: int) -> Plan:
    """What to do now for a pool that should have ``wanted`` workers."""
    surplus = scene.replicas - wanted
    if surplus <= 0:
        return _steady(scene, wanted)
    if isinstance(scene.pods, Missing):
        why = f"the pods aren't known ({scene.pods.reason}), so none can be chosen"
        return Plan(frozenset(), frozenset(), (), (), scene.replicas, (_waiting(scene, wanted, why),))
    if scene.rollout is not None and wanted > 0:  # to zero all go, and nobody need be chosen
        return _steady(scene, scene.replicas, (_waiting(scene, wanted, scene.rollout),))
    return _shrink(scene, wanted)


def _shrink(scene: Scene, wanted: int) -> Plan:
    surplus = scene.replicas - wanted
    free = _free(scene)
    chosen = _choose(scene, free, surplus)
    draining = frozenset(pod.name for pod in chosen if pod.name not in free)
    removed, waits = _removed(scene, chosen, free)
    beyond = max(0, len(scene.standing) + scene.absent - scene.replicas)  # a rollout's
    replicas = scene.replicas - min(scene.absent, surplus) - max(0, len(removed) - beyond)
    if replicas < scene.replicas and (why := _why_not_yet(scene, replicas)):
        removed, replicas, waits = (), scene.replicas, (*waits, _waiting(scene, wanted, why))
    if scene.redis_ms is None and (stuck := replicas - wanted):
        waits = (*waits, f"Redis can't be read, so nobody can be asked to drain: {stuck} more should go")
    return Plan(
        hold=draining | _held_doomed(scene),
        release=frozenset(scene.drains) - draining - scene.doomed,
        mark=_marks(scene, removed),
        unmark=_unmarks(scene, removed),
        replicas=replicas,
        waits=(*_still_draining(scene, chosen, free), *waits),
        given_up=sum(scene.given_up(pod) and not scene.drained(pod) and pod.name not in free for pod in removed),
    )


def _why_not_yet(scene: Scene, replicas: int) -> str | None:
    """What forbids this step now."""
    return scene.rollout if replicas > 0 and scene.rollout is not None else scene.unsettled


def _steady(scene: Scene, replicas: int, waits: tuple[str, ...] = ()) -> Plan:
    """Nobody goes: drains are taken back, costs cleared."""
    known = not isinstance(scene.pods, Missing)
    return Plan(
        hold=_held_doomed(scene),
        release=frozenset(scene.drains) - scene.doomed if known and scene.drains else frozenset(),
        mark=(),
        unmark=_unmarks(scene, ()),
        replicas=replicas,
        waits=waits,
    )


def _held_doomed(scene: Scene) -> frozenset[str]:
    """A worker that is as good as deleted must take nothing new until it is."""
    return scene.doomed & frozenset(scene.drains) if scene.drains else frozenset()


def _report(reports: Mapping[str, WorkerReport] | Missing, pod: Pod) -> WorkerReport | None:
    return None if isinstance(reports, Missing) else reports.get(pod.name)


def _free(scene: Scene) -> set[str]:
    told = not isinstance(scene.reports, Missing)
    return {
        pod.name
        for pod in scene.standing
        if needs_no_drain(pod, _report(scene.reports, pod), told=told, now=scene.now, patience=scene.patience)
    }


def _choose(scene: Scene, free: set[str], surplus: int) -> list[Pod]:
    reports = {} if isinstance(scene.reports, Missing) else scene.reports
    candidates: Iterable[Pod] = scene.standing
    if scene.redis_ms is None:  # nobody new can be asked to drain
        candidates = [pod for pod in candidates if pod.name in free or pod.name in scene.drains]
    given_up = {pod.name for pod in scene.standing if scene.given_up(pod)}
    key = chosen_first(reports, free, given_up, set(scene.drains))
    chosen = sorted(candidates, key=key)
    # To zero all go, those too that a rollout has beyond ``replicas``.
    return chosen if surplus == scene.replicas else chosen[: max(0, surplus - scene.absent)]


def _removed(scene: Scene, chosen: list[Pod], free: set[str]) -> tuple[tuple[Pod, ...], tuple[str, ...]]:
    """Those that may go now, and why no more: as many as the ReplicaSet takes without touching anybody else."""
    going = {pod.name for pod in chosen if pod.name in free or scene.drained(pod) or scene.given_up(pod)}
    order = sorted(scene.standing, key=taken_first(lambda pod: LOWEST_COST if pod.name in going else _cost(pod)))
    for count, pod in enumerate(order[: len(going)]):
        if pod.name not in going and pod.name not in free:
            text = f"{pod.name} is not ready and may hold jobs: it would be deleted before workers that have drained"
            return tuple(order[:count]), (text,)
    return tuple(order[: len(going)]), ()


def _cost(pod: Pod) -> int:
    """A survivor's, once ours is taken from it."""
    return 0 if pod.cost == LOWEST_COST else pod.cost


def _marks(scene: Scene, removed: tuple[Pod, ...]) -> tuple[Pod, ...]:
    """Where all go, or a pod has no process yet, the ReplicaSet needs no telling."""
    if len(removed) == len(scene.standing):
        return ()
    return tuple(pod for pod in removed if pod.begun and pod.cost != LOWEST_COST)


def _unmarks(scene: Scene, removed: tuple[Pod, ...]) -> tuple[Pod, ...]:
    if isinstance(scene.pods, Missing) or all(pod.cost != LOWEST_COST for pod in scene.pods):
        return ()
    going = {pod.uid for pod in removed}
    return tuple(pod for pod in scene.standing if pod.cost == LOWEST_COST and pod.uid not in going)


def _waiting(scene: Scene, wanted: int, why: str) -> str:
    return f"scale-in from {scene.replicas} to {wanted} waits: {why}"


def _still_draining(scene: Scene, chosen: list[Pod], free: set[str]) -> tuple[str, ...]:
    busy = [pod for pod in chosen if not (pod.name in free or scene.drained(pod) or scene.given_up(pod))]
    if not busy:
        return ()
    named = ", ".join(f"{pod.name} ({_load(scene, pod)})" for pod in busy[:_NAMED])
    more = f" and {len(busy) - _NAMED} more" if len(busy) > _NAMED else ""
    verb = "worker drains" if len(busy) == 1 else "workers drain"
    return (f"{len(busy)} {verb} before going: {named}{more}",)


def _load(scene: Scene, pod: Pod) -> str:
    report = _report(scene.reports, pod)
    return "no fresh report" if report is None else f"{report.in_flight} in flight"
