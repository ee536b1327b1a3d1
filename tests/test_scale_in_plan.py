"""Who goes, who drains first, and what must wait: single situations of a plan, and what a pod's object says."""

from dataclasses import replace
from typing import Any

import pytest

from llmpool_contract import WorkerState
from llmpool_operator.act.drains import Drain, is_drained, seen, told
from llmpool_operator.act.plan import Plan, Scene, make_plan
from llmpool_operator.act.rivals import QUIET, Rivals, scaler_of
from llmpool_operator.act.scene import gpu_readings, rollout_of, unsettled_of
from llmpool_operator.decide.types import Missing, Observation, PodReading
from llmpool_operator.pods import LOWEST_COST, Pod, PodShelf, pod_of
from llmpool_operator.targets.base import Sighting
from tests.support.scale_world import PATIENCE, pod, report

NOW = 1_000.0
NOW_MS = 1_000_000
DRAIN = Drain(since_ms=NOW_MS - 5_000, until_ms=NOW_MS + 9_000)


def scene(*pods: Pod, loads: dict[str, int] | None = None, **given: Any) -> Scene:
    """All pods asked for, each reporting its load (none told: 0 jobs)."""
    loads = {one.name: 0 for one in pods} if loads is None else loads
    base: dict[str, Any] = {
        "replicas": len(pods),
        "created": len(pods),
        "pods": pods,
        "reports": {name: report(name, load, at_ms=NOW_MS) for name, load in loads.items()},
        "drains": {},
        "redis_ms": NOW_MS,
        "patience": PATIENCE,
        "now": NOW,
    }
    return Scene(**{**base, **given})


def drained(name: str) -> dict[str, Any]:
    """A report of a worker that has drained."""
    return {name: report(name, 0, WorkerState.DRAINED, NOW_MS)}


def names(pods: tuple[Pod, ...]) -> set[str]:
    return {one.name for one in pods}


UNREADY = {"ready": False, "ready_since": NOW - 3}
STARTS = {**UNREADY, "ever_ready": False}
PENDING = {**STARTS, "phase": "Pending"}
LOST = {"ready": False, "ready_since": NOW - PATIENCE}


@pytest.mark.parametrize(
    ("pods", "loads", "held", "replicas"),
    [
        pytest.param([pod("a"), pod("b"), pod("c")], {"a": 3, "b": 0, "c": 1}, {"b"}, 3, id="idle-first"),
        pytest.param([pod("a"), pod("b")], {"a": 3, "b": 1}, {"b"}, 2, id="then-least-loaded"),
        pytest.param([pod("a", created=1.0), pod("b", created=2.0)], {"a": 0, "b": 0}, {"b"}, 2, id="youngest"),
        pytest.param([pod("a"), pod("b")], {"a": 4}, {"a"}, 2, id="unknown-after-the-busiest"),
        pytest.param([pod("a"), pod("b", **PENDING)], {"a": 0}, set(), 1, id="pending-at-once"),
        pytest.param([pod("a"), pod("b", **STARTS)], {"a": 0}, set(), 1, id="never-ready-at-once"),
        pytest.param([pod("a"), pod("b", **STARTS)], {"a": 0, "b": 2}, {"b"}, 2, id="starting-with-work-drains"),
        pytest.param([pod("a"), pod("b", **UNREADY)], {"a": 0, "b": 2}, {"b"}, 2, id="unready-would-go-anyhow"),
        pytest.param([pod("a"), pod("b", **UNREADY)], {"a": 0}, {"a"}, 2, id="unready-and-silent-is-unknown"),
        pytest.param([pod("a"), pod("b", **LOST)], {"a": 0}, set(), 1, id="silent-for-as-long-as-a-drain"),
    ],
)
def test_whom_a_scale_in_by_one_chooses(pods: list[Pod], loads: dict[str, int], held: set[str], replicas: int) -> None:
    """Without work at once; with work, or perhaps with work, only after a drain."""
    plan = make_plan(scene(*pods, loads=loads), len(pods) - 1)
    assert (plan.hold, plan.replicas, names(plan.mark)) == (held, replicas, names(plan.mark) & {"b"})


def test_the_steps_of_a_drain() -> None:
    """Asked and waited for by name and load; once drained marked, and then no longer asked for; the rest unmarked."""
    pods = pod("a"), pod("b", cost=LOWEST_COST), pod("c")
    plan = make_plan(scene(*pods, loads={"a": 0, "b": 2, "c": 5}), 2)
    assert plan.hold == {"a"}
    assert names(plan.unmark) == {"b"}
    assert plan.waits == ("1 worker drains before going: a (0 in flight)",)
    before = scene(*pods, loads={"b": 2, "c": 5}, drains={"a": DRAIN})
    plan = make_plan(replace(before, reports={**before.reports, **drained("a")}), 2)
    assert (plan.hold, names(plan.mark), names(plan.unmark), plan.replicas, plan.waits) == ({"a"}, {"a"}, {"b"}, 2, ())


def test_who_is_given_away_keeps_its_drain_until_it_is_deleted() -> None:
    """Between the patch and the deletion nothing new is taken, and nobody else is counted out for it."""
    pods = pod("a", cost=LOWEST_COST), pod("b")
    after = scene(*pods, replicas=1, drains={"a": DRAIN})
    assert after.leaving == 0
    plan = make_plan(after, 1)
    assert (plan.hold, plan.release, plan.unmark, plan.replicas) == ({"a"}, set(), (), 1)
    gone = scene(replace(pods[0], deleting=True), pods[1], replicas=1, drains={"a": DRAIN})
    assert make_plan(gone, 1).release == {"a"}


def test_a_burst_takes_drains_back() -> None:
    """As many as are wanted again, the busiest first; and more pods only for what is missing then."""
    pods = pod("a"), pod("b"), pod("c")
    now = scene(*pods, loads={"a": 1, "b": 3, "c": 5}, drains={"a": DRAIN, "b": DRAIN})
    plan = make_plan(now, 2)
    assert (plan.hold, plan.release, plan.replicas) == ({"a"}, {"b"}, 3)
    plan = make_plan(now, 7)
    assert (plan.hold, plan.release, plan.replicas) == (set(), {"a", "b"}, 7)


def test_who_drains_already_stays_chosen() -> None:
    """Another one that is idler by now does not take its place: nobody would ever get to the end."""
    now = scene(pod("a"), pod("b"), loads={"a": 2, "b": 0}, drains={"a": DRAIN})
    assert make_plan(now, 1).hold == {"a"}


def test_a_pod_without_work_takes_the_place_of_one_that_drains() -> None:
    """Why wait for the busy one: it goes on."""
    now = scene(pod("a"), pod("b", **PENDING), loads={"a": 2}, drains={"a": DRAIN})
    plan = make_plan(now, 1)
    assert (plan.hold, plan.release, plan.replicas) == (set(), {"a"}, 1)


def test_a_silent_unready_pod_in_the_way_is_waited_for() -> None:
    """A ReplicaSet would delete it before the drained one, whatever the costs are: nobody goes, and it is said."""
    now = scene(pod("a"), pod("b", **UNREADY), loads={}, drains={"a": DRAIN}, reports=drained("a"))
    plan = make_plan(now, 1)
    assert (plan.replicas, plan.mark, plan.hold) == (2, (), {"a"})
    assert plan.waits == ("b is not ready and may hold jobs: it would be deleted before workers that have drained",)


def test_pods_that_are_not_made_yet_go_first() -> None:
    """What is only asked for costs nobody anything; pods that the view of them doesn't show yet do exist."""
    assert make_plan(scene(pod("a"), replicas=4, created=1), 1).replicas == 1
    assert make_plan(scene(pod("a"), replicas=4, created=3), 1).replicas == 3


def test_a_worker_that_never_drains_is_given_up() -> None:
    """After drainSeconds its pod goes, jobs or not: SIGTERM gives them back."""
    ages = {"since_ms": NOW_MS - int(PATIENCE * 1000), "until_ms": NOW_MS + 9_000}
    now = scene(pod("a"), pod("b"), loads={"a": 4, "b": 4}, drains={"a": Drain(**ages)})
    plan = make_plan(now, 1)
    assert (plan.replicas, names(plan.mark), plan.waits, plan.given_up) == (1, {"a"}, (), 1)


ROLLOUT = "a rollout is going on"


@pytest.mark.parametrize(
    ("given", "wanted", "replicas", "held", "said"),
    [
        pytest.param({"rollout": ROLLOUT}, 1, 2, set(), ROLLOUT, id="rollout"),
        pytest.param({"rollout": ROLLOUT, "reports": {**drained("a"), **drained("b")}}, 0, 0, {"a", "b"}, "", id="all"),
        pytest.param({"rollout": ROLLOUT, "reports": drained("a")}, 0, 2, {"a", "b"}, ROLLOUT, id="not-yet-all"),
        pytest.param({"unsettled": "not taken up", "reports": drained("a")}, 1, 2, {"a"}, "not taken up", id="moment"),
        pytest.param({"pods": Missing("PodsNotListed")}, 1, 2, set(), "PodsNotListed", id="pods-unknown"),
        pytest.param(
            {"redis_ms": None, "reports": Missing("x")}, 0, 2, {"a", "b"}, "Redis can't be read", id="no-redis"
        ),
    ],
)
def test_what_a_scale_in_waits_for(
    given: dict[str, Any], wanted: int, replicas: int, held: set[str], said: str
) -> None:
    """During a rollout nobody can be chosen, but all may go; without Redis nobody can be asked. Each is told."""
    now = scene(pod("a"), pod("b"), drains={"a": DRAIN, "b": DRAIN}, **given)
    plan: Plan = make_plan(now, wanted)
    assert (plan.replicas, plan.hold, plan.mark) == (replicas, held, ())
    assert said in " ".join(plan.waits)
    assert bool(plan.waits) == bool(said)


def test_without_redis_pods_that_have_no_process_still_go() -> None:
    """They need nobody's word; one that may have worked before Redis went away does."""
    pods = pod("a"), pod("b", **PENDING), pod("c", **STARTS)
    plan = make_plan(scene(*pods, reports=Missing("RedisUnreachable"), redis_ms=None), 0)
    assert plan.replicas == 2
    assert plan.waits == ("Redis can't be read, so nobody can be asked to drain: 2 more should go",)


def test_all_at_once_need_no_marks() -> None:
    """On the way to zero nobody need be told apart."""
    now = scene(pod("a"), pod("b"), drains={"a": DRAIN, "b": DRAIN}, reports={**drained("a"), **drained("b")})
    plan = make_plan(now, 0)
    assert (plan.replicas, plan.mark) == (0, ())


def test_a_drain_is_believed_only_without_a_gap() -> None:
    """A report of "drained" from before a lapse, or from before this process knew of the drain, says nothing."""
    known = seen({"a": Drain(100, 900)}, {"a": 900, "b": 900, "c": 500}, 500)
    assert known == {"a": Drain(100, 900), "b": Drain(500, 900)}
    assert told(known, {"a": 1_500}, ("b",), 800) == {"a": Drain(100, 1_500)}
    assert told(known, {"a": 1_600}, (), 900)["a"] == Drain(900, 1_600)
    assert not is_drained(known["b"], report("b", 0, WorkerState.DRAINED, 499))
    assert is_drained(known["b"], report("b", 0, WorkerState.DRAINED, 500))
    assert not is_drained(known["b"], report("b", 0, WorkerState.DRAINING, 501))
    assert not is_drained(known["b"], None)


def deployment(updated: int, existing: int, generation: int = 2, observed: int = 2) -> dict[str, Any]:
    status = {"updatedReplicas": updated, "replicas": existing, "observedGeneration": observed}
    return {"metadata": {"generation": generation}, "status": status}


@pytest.mark.parametrize(
    ("deployment", "sets", "said"),
    [
        pytest.param(deployment(3, 3), ["x", "x"], None, id="none"),
        pytest.param(deployment(1, 3), ["x"], "1 of 3 workers", id="old-ones-left"),
        pytest.param(deployment(3, 3), ["x", "y"], "2 ReplicaSets", id="old-pods-left"),
        pytest.param({"metadata": {"generation": 1}}, [], None, id="new"),
    ],
)
def test_what_a_rollout_looks_like(deployment: dict[str, Any], sets: list[str], said: str | None) -> None:
    """Old pods that are left, by the Deployment's count or by their own ReplicaSet."""
    pods = [pod(f"p{index}", replica_set=name) for index, name in enumerate(sets)]
    found = rollout_of(deployment, pods)
    assert found is None if said is None else said in (found or "")


def test_a_deployment_that_nobody_has_seen_yet() -> None:
    """Its controller works on an older state."""
    assert unsettled_of(deployment(1, 1, generation=3, observed=2)) is not None
    assert unsettled_of(deployment(1, 1)) is None


def test_two_changes_of_one_manager_make_a_rival() -> None:
    """A hand changes a size once; who does it twice in ten minutes is an autoscaler, until it was quiet for as long."""
    rivals = Rivals().changed("kubectl", NOW).changed("kube-controller-manager", NOW + 60)
    assert rivals.rival is None
    rivals = rivals.changed("kube-controller-manager", NOW + QUIET + 59)
    assert rivals.rival == "kube-controller-manager"
    assert rivals.at(NOW + 2 * QUIET + 58).rival == "kube-controller-manager"
    assert rivals.at(NOW + 2 * QUIET + 59) == Rivals()
    late = Rivals().changed("kubectl", NOW).changed("kubectl", NOW + QUIET)
    assert late.rival is None


def test_who_scaled_is_in_the_managed_fields() -> None:
    """The last one whose write had replicas in it."""

    def entry(manager: str, time: str, *fields: str) -> dict[str, Any]:
        return {"manager": manager, "time": time, "fieldsV1": {"f:spec": {field: {} for field in fields}}}

    fields = [entry("a", "2026-01-01T00:00:00Z", "f:replicas"), entry("b", "2026-01-02T00:00:00Z", "f:replicas")]
    fields.append(entry("c", "2026-01-03T00:00:00Z", "f:template"))
    assert scaler_of({"metadata": {"managedFields": fields}}) == "b"
    assert scaler_of({"metadata": {}}) == "somebody"


def test_gpu_readings_by_pod() -> None:
    """Each pod that counts, with its sample where there is one; pods that go are left out."""
    seen_by = Sighting(Observation(NOW, {}), Missing("x"), gpu_by_pod={"a": (75.0, 5.0), "b": (30.0, 4.0)})
    pods = [pod("a"), pod("b", ready=False), pod("c"), pod("d"), pod("e", deleting=True)]
    assert gpu_readings(pods, seen_by, {"d"}) == (
        PodReading(True, 75.0, 5.0),
        PodReading(False, 30.0, 4.0),
        PodReading(True),
    )


REPLICA_SET = {"uid": "rs", "kind": "ReplicaSet", "name": "chat-1", "controller": True}


def raw(name: str = "a", version: int = 5, uid: str = "u", **more: Any) -> dict[str, Any]:
    metadata = {
        "name": name,
        "namespace": "ns",
        "uid": uid,
        "resourceVersion": str(version),
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"llmpool.dev/pool": "chat"},
        "ownerReferences": [
            {"uid": "other"},
            {"uid": "rs", "kind": "ReplicaSet", "name": "chat-1", "controller": True},
        ],
        **more.pop("metadata", {}),
    }
    return {"metadata": metadata, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}, **more}


def ready(status: str, at: str) -> list[dict[str, str]]:
    return [{"type": "Ready", "status": status, "lastTransitionTime": f"2026-01-01T00:{at}Z"}]


def test_what_is_kept_of_a_pod() -> None:
    """Enough to rank it: place, phase, readiness and since when, cost, age, whose it is."""
    cost = {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-7"}}
    status = {"phase": "Running", "conditions": ready("True", "01:00"), "containerStatuses": [{"restartCount": 2}]}
    found = pod_of(raw(metadata=cost, status=status))
    assert (found.pool, found.replica_set, found.cost, found.restarts) == (("ns", "chat"), "rs", -7, 2)
    assert (found.ready, found.ever_ready, found.ready_since - found.created) == (True, True, 60.0)
    assert found.begun
    assert found.active


@pytest.mark.parametrize(
    ("conditions", "ever"),
    [
        pytest.param(ready("False", "00:01"), False, id="not-ready-since-it-began"),
        pytest.param(ready("False", "05:00"), True, id="not-ready-again"),
        pytest.param([], False, id="nothing-told"),
    ],
)
def test_whether_a_pod_was_ever_ready(conditions: list[dict[str, str]], ever: bool) -> None:
    """A new process can tell by when the pod became unready; one that saw it ready remembers."""
    assert pod_of(raw(status={"phase": "Running", "conditions": conditions})).ever_ready == ever
    shelf = PodShelf()
    shelf.put(pod_of(raw(version=5, status={"phase": "Running", "conditions": ready("True", "00:02")})))
    shelf.put(pod_of(raw(version=6, status={"phase": "Running", "conditions": conditions})))
    [held] = shelf.of(("ns", "chat"))
    assert (held.version, held.ready, held.ever_ready) == (6, False, True)


def test_a_pod_that_no_node_takes() -> None:
    """As the scheduler says it; one that nobody has looked at yet isn't one of them, nor is any where no node is."""
    full = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes are available"}
    assert pod_of(raw(status={"phase": "Pending", "conditions": [full]})).unschedulable
    assert not pod_of(raw(status={"phase": "Pending"})).unschedulable
    none = full | {"message": "no nodes available to schedule pods"}
    assert not pod_of(raw(status={"phase": "Pending", "conditions": [none]})).unschedulable


@pytest.mark.parametrize(
    "owners",
    [
        pytest.param([], id="a copy for debugging"),
        pytest.param([{**REPLICA_SET, "kind": "Job"}], id="a job"),
        pytest.param([{**REPLICA_SET, "name": "other-1"}], id="another deployment's"),
        pytest.param([{**REPLICA_SET, "controller": False}], id="not its controller"),
    ],
)
def test_a_pod_that_only_carries_the_label_is_nobodys_worker(owners: list[dict[str, Any]]) -> None:
    """It neither counts nor goes, and no rollout is seen in it."""
    shelf = PodShelf()
    shelf.put(pod_of(raw(metadata={"ownerReferences": owners})))
    assert shelf.of(("ns", "chat")) == ()


def test_pods_come_and_go() -> None:
    """Older news is no news, a deletion is final, a list finds what a watch slept through."""
    shelf, key = PodShelf(), ("ns", "chat")
    shelf.put(pod_of(raw(version=5)))
    shelf.put(pod_of(raw(version=4)))
    assert [one.version for one in shelf.of(key)] == [5]
    shelf.drop(pod_of(raw(version=7)))
    shelf.put(pod_of(raw(version=6)))
    assert shelf.of(key) == ()
    shelf.put(pod_of(raw(version=8, uid="v")))
    shelf.put(pod_of(raw(name="b", version=20, uid="w")))
    assert not shelf.listed
    shelf.prune([], "10")
    assert (shelf.listed, [one.name for one in shelf.of(key)]) == (True, ["b"])


def test_to_zero_a_rollouts_pods_drain_too() -> None:
    """A fifth pod beside four that are asked for drains as well, and the last step waits for all five."""
    pods = [pod(name) for name in "abcde"]
    rollout: dict[str, Any] = {"replicas": 4, "rollout": "a rollout is going on"}
    plan = make_plan(scene(*pods, loads=dict.fromkeys("abcde", 1), **rollout), 0)
    assert (plan.hold, plan.replicas) == (frozenset("abcde"), 4)
    rollout["drains"] = dict.fromkeys("abcde", DRAIN)
    four = {one: drained(one)[one] for one in "abcd"} | {"e": report("e", 1, WorkerState.DRAINING, NOW_MS)}
    assert make_plan(scene(*pods, reports=four, **rollout), 0).replicas == 4
    five = {one: drained(one)[one] for one in "abcde"}
    assert make_plan(scene(*pods, reports=five, **rollout), 0).replicas == 0
