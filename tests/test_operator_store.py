"""What the operator knows of the cluster, whoever tells it first."""

from typing import Any

from llmpool_operator.store import Store

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
    """A Deployment that somebody edits or deletes asks for its pool's turn; its own counts don't."""
    store = Store()
    store.saw_deployment(obj(1))
    store.take_dirty()
    store.saw_deployment({**obj(2), "status": {"readyReplicas": 3}})
    assert store.take_dirty() == set()
    assert store.deployments.objects[KEY]["status"] == {"readyReplicas": 3}
    store.saw_deployment(obj(3, generation=2))
    assert store.take_dirty() == {KEY}
    store.saw_deployment(obj(4, generation=2), deleted=True)
    assert store.take_dirty() == {KEY}
