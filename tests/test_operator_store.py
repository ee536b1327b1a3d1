"""What the operator knows of the cluster, whoever tells it first."""

from typing import Any

from llmpool_operator.slim import slim_deployment
from llmpool_operator.store import Store, assumed

KEY = ("ns", "chat")


def obj(version: int, *, uid: str = "u1", generation: int = 1, name: str = "chat", **metadata: Any) -> dict[str, Any]:
    given = {"namespace": "ns", "name": name, "uid": uid, "resourceVersion": str(version), "generation": generation}
    return {"metadata": {**given, **metadata}, "spec": {}}


def held(store: Store) -> int | None:
    found = store.pools.objects.get(KEY)
    return None if found is None else int(found["metadata"]["resourceVersion"])


def test_older_news_is_no_news() -> None:
    """A watch that lags behind an own write doesn't bring the old state back."""
    store = Store()
    store.saw_pool(obj(9))
    store.saw_pool(obj(10))
    store.saw_pool(obj(9))
    assert held(store) == 10


def test_what_was_only_assumed_gives_way_to_the_real_one() -> None:
    """The answer to a resize shows no status: the object with it, of the same version, is taken, and an older isn't."""
    store = Store()
    store.saw_deployment({**obj(10), "status": {"replicas": 2}})
    store.saw_deployment(assumed({**obj(12), "status": {"replicas": 2}}))
    store.saw_deployment({**obj(11), "status": {"replicas": 1}})
    assert store.deployments.objects[KEY]["status"] == {"replicas": 2}
    real = {**obj(12), "status": {"replicas": 3}}
    store.saw_deployment(real)
    store.saw_deployment(assumed({**obj(12), "status": {"replicas": 2}}))
    assert store.deployments.objects[KEY] == slim_deployment(real)


def test_status_writes_make_nothing_dirty() -> None:
    """Only a new, changed or deleted pool asks for a turn: the echo of our own status would turn for ever."""
    store = Store()
    store.saw_pool(obj(1))
    assert store.take_dirty() == {KEY}
    store.saw_pool(obj(2))
    assert store.take_dirty() == set()
    assert not store.changed.is_set()
    store.saw_pool(obj(3, generation=2))
    assert store.changed.is_set()
    assert store.take_dirty() == {KEY}
    store.saw_pool(obj(4, generation=2, deletionTimestamp="now"))
    assert store.take_dirty() == {KEY}


def test_a_deletion_is_final() -> None:
    """A list that began before the deletion doesn't bring the object back; a new one of the name is welcome."""
    store = Store()
    store.saw_pool(obj(5))
    store.saw_pool(obj(7), deleted=True)
    store.listed_pools([obj(5)], "6")
    assert held(store) is None
    store.saw_pool(obj(8, uid="u2"))
    assert held(store) == 8
    store.saw_pool(obj(9), deleted=True)
    assert held(store) == 8, "the deletion of the first is late news"


def test_what_left_a_watch_may_come_back() -> None:
    """A watch tells as deleted what lost its label, too: the same object is welcome as it is since, or newer."""
    store = Store()
    store.saw_deployment(obj(5))
    store.saw_deployment(obj(7), deleted=True)
    store.saw_deployment(obj(6))
    assert KEY not in store.deployments.objects
    store.saw_deployment(obj(7))
    store.saw_deployment(obj(8))
    assert store.deployments.objects[KEY]["metadata"]["resourceVersion"] == "8"


def test_a_list_finds_what_a_watch_slept_through() -> None:
    """What a list doesn't have is gone, unless it is younger than the list."""
    store = Store()
    store.saw_pool(obj(5))
    store.saw_pool(obj(20, uid="u2", name="young"))
    store.take_dirty()
    store.listed_pools([], "10")
    assert held(store) is None
    assert ("ns", "young") in store.pools.objects
    assert store.take_dirty() == {KEY}


def test_a_deployment_tells_of_its_pool() -> None:
    """A Deployment that somebody edits or deletes asks for its pool's turn; its own counts and our echo don't."""
    store = Store()
    store.saw_deployment(obj(1))
    store.take_dirty()
    store.saw_deployment({**obj(2), "status": {"readyReplicas": 3}})
    assert store.take_dirty() == set()
    assert store.deployments.objects[KEY]["status"] == {"readyReplicas": 3}
    store.saw_deployment({**obj(3), "spec": {"replicas": 2}})
    assert store.take_dirty() == {KEY}
    store.saw_deployment({**obj(4, generation=2), "spec": {"replicas": 2}})
    assert store.take_dirty() == set()
    store.saw_deployment(obj(5, generation=2), deleted=True)
    assert store.take_dirty() == {KEY}


def owners() -> list[dict[str, Any]]:
    replicas = {"f:spec": {"f:replicas": {}, "f:template": {"f:spec": {}}}, "f:metadata": {}}
    return [
        {"manager": "kubectl", "operation": "Update", "subresource": "scale", "fieldsV1": replicas},
        {"manager": "llmpool-operator", "operation": "Update", "fieldsV1": replicas},
        {"manager": "llmpool-operator", "operation": "Apply", "fieldsV1": {"f:spec": {"f:template": {}}}},
    ]


def test_of_an_object_only_what_is_needed_is_kept() -> None:
    """Who wrote which field is most of an object: of it stay the replicas' owners, and what a hand-over needs."""
    store = Store()
    whole = {**obj(1, managedFields=owners()), "spec": {"template": {"spec": {}}}}
    store.saw_deployment(whole)
    store.saw_pool(obj(1, managedFields=owners(), annotations={"a": "b"}))
    kept = store.deployments.objects[KEY]["metadata"]["managedFields"]
    assert [entry["manager"] for entry in kept] == [entry["manager"] for entry in owners()]
    assert kept[0]["fieldsV1"] == {"f:spec": {"f:replicas": {}}}
    assert kept[1] == owners()[1]
    assert kept[2]["fieldsV1"] == {}
    assert whole["metadata"]["managedFields"] == owners(), "what was given is not changed"
    assert "managedFields" not in store.pools.objects[KEY]["metadata"]
    assert store.pools.objects[KEY]["metadata"]["annotations"] == {"a": "b"}


def test_of_a_template_its_fingerprint_is_kept() -> None:
    """A changed pod template asks for its pool's turn; an equal one, whatever the order of its fields, doesn't."""
    store = Store()
    store.saw_deployment({**obj(1), "spec": {"template": {"spec": {"a": 1, "b": [2]}}}})
    first = store.deployments.objects[KEY]["spec"]["template"]
    assert isinstance(first, str)
    store.take_dirty()
    store.saw_deployment({**obj(2), "spec": {"template": {"spec": {"b": [2], "a": 1}}}})
    assert store.deployments.objects[KEY]["spec"]["template"] == first
    assert store.take_dirty() == set()
    store.saw_deployment({**store.deployments.objects[KEY], "metadata": obj(3)["metadata"]})
    assert store.take_dirty() == set(), "what came out of the store may go in again"
    store.saw_deployment({**obj(4), "spec": {"template": {"spec": {"a": 1, "b": [3]}}}})
    assert store.take_dirty() == {KEY}
