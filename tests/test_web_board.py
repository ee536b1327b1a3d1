"""What the operator's page is made from: pure, bounded, missing where something is missing, and never a prompt."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from llmpool_contract import WorkerReport
from llmpool_operator.decide.types import Decision, History, Missing, Observation, QueueBacklog, Reason
from llmpool_operator.targets.base import Sighting, Size, TargetError, Turn, Workers
from llmpool_operator.web.access import refusal
from llmpool_operator.web.board import Board
from llmpool_operator.web.detail import MOST_WORKERS, detail_of
from llmpool_operator.web.letters import letters_of
from llmpool_operator.web.past import OF_ALL, PER_POOL, Past
from llmpool_operator.web.rows import Counts, Seen, row_of
from llmpool_operator.web.schema import MAX_NAME, Row, text
from tests.support.web_pool import HOSTILE, SECRET, report

AT = 1_800_000_000.0
KEY = ("lms", "chat")
GONE = Missing("RedisTimeout at redis:6379")
SOME = QueueBacklog(3, 1, 2, None)


def pool(**status: Any) -> dict[str, Any]:
    metadata = {"namespace": "lms", "name": "chat", "uid": "u", "generation": 1}
    return {"metadata": metadata, "spec": {"queues": [{"name": "a"}, {"name": "b"}]}, "status": status}


def decision(replicas: int = 2, **more: Any) -> Decision:
    made = Decision(replicas, 3, 2, Reason.TOO_MANY_REPLICAS, "why", (), (), (), History(), hold=False)
    return replace(made, **more)


def turn(a: QueueBacklog | Missing = SOME, **more: Any) -> Turn:
    queues = {"a": a, "b": QueueBacklog(1, 0, 0, None)}
    sighting = Sighting(Observation(AT, queues), Workers(2, 1, 2, 10), more.pop("reports", {}))
    given: dict[str, Any] = {"size": Size(2, 4, 1), "decision": decision(), **more}
    return Turn(AT, sighting=sighting, **given)


def told(name: str, **fields: Any) -> WorkerReport:
    return WorkerReport.model_validate_json(report("lms/chat", name, **fields))


def test_a_line_of_a_turn() -> None:
    """Sizes, sums over the queues, and the counts that are only made for the page."""
    row = row_of(KEY, Seen(pool(), turn()), Counts(5, 7))
    wanted = {
        "size": 4,
        "readyWorkers": 1,
        "desired": 2,
        "busy": 1,
        "queued": 5,
        "inFlight": 2,
        "delayed": 5,
        "dead": 7,
    }
    assert {name: row[name] for name in wanted} == wanted  # type: ignore[literal-required]
    assert (row["reason"], row["trouble"], row["source"]) == ("TooManyReplicas", False, "turn")


@pytest.mark.parametrize(
    "seen",
    [
        Seen(pool(), turn()),
        Seen(pool(), turn(size=GONE, decision=None)),
        Seen(pool(replicas=2)),
        Seen({"metadata": pool()["metadata"], "spec": {}}),
    ],
    ids=["turn", "unknown size", "status", "nothing"],
)
def test_a_line_has_all_fields(seen: Seen) -> None:
    """Whatever is known or isn't, a line has every field of its schema and no other."""
    assert row_of(KEY, seen, Counts()).keys() == Row.__annotations__.keys()


@pytest.mark.parametrize(
    ("seen", "fields", "reason"),
    [
        (Seen(pool(), turn(GONE)), ("queued", "inFlight"), "a: RedisTimeout at redis:6379"),
        (Seen(pool(), turn(size=GONE, decision=None)), ("size", "readyWorkers", "desired"), GONE.reason),
        (Seen(pool(), turn()), ("dead", "delayed"), "not read yet"),
        (Seen(pool(), turn()), ("tokensPerSecond",), "no worker has told it"),
        (Seen(pool(replicas=1)), ("queued", "busy", "gpuPercent"), "the pool's status doesn't tell"),
    ],
    ids=["one queue of two", "size", "not read yet", "tokens", "status"],
)
def test_missing_is_never_zero(seen: Seen, fields: tuple[str, ...], reason: str) -> None:
    """What couldn't be read says why; a sum with a missing part is missing."""
    row = row_of(KEY, seen, Counts())
    assert [row[field] for field in fields] == [{"missing": reason}] * len(fields)  # type: ignore[literal-required]


def test_a_failure_comes_before_the_decision() -> None:
    """A pool whose target failed says so, and not the size that was only decided."""
    row = row_of(KEY, Seen(pool(), turn(failure=TargetError("APIUnreachable", "no answer"))), Counts())
    assert (row["reason"], row["trouble"], row["desired"]) == ("APIUnreachable", True, 2)


def test_a_standby_shows_what_the_status_says() -> None:
    """Without a turn of this process the pool's object is all there is: its sizes, decision and conditions."""
    status = {
        "replicas": 3,
        "queued": 9,
        "decision": {"reason": "FromZero", "message": "there is work"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "WorkersReady"}],
    }
    seen = Seen(pool(**status))
    row = row_of(KEY, seen, Counts())
    assert (row["size"], row["queued"], row["reason"], row["source"]) == (3, 9, "FromZero", "status")
    assert row["ready"] == {"status": "True", "reason": "WorkersReady"}
    detail = detail_of(KEY, seen, counts={}, letters=[], decisions=[])
    assert detail["conditions"] == status["conditions"]
    assert detail["workers"] == {"missing": "only the leader reads it"}
    assert [queue["ready"] for queue in detail["queues"]] == [{"missing": "only the leader reads it"}] * 2


def test_others_words_are_bounded_and_visible() -> None:
    """Names from outside stay what they are, but for their length, control characters and what turns text around."""
    assert text(HOSTILE) == HOSTILE
    assert text("a\u202eb\nc\x1b[0m") == "a b c [0m"
    assert len(text("x" * 10_000)) == 512
    reports = {HOSTILE * 9: told(HOSTILE * 9, resident_models=[HOSTILE] * 99)}
    detail = detail_of(KEY, Seen(pool(), turn(reports=reports)), counts={}, letters=[], decisions=[])
    workers: Any = detail["workers"]
    assert len(workers["rows"][0]["worker"]) == MAX_NAME
    assert len(workers["rows"][0]["models"]) == 16


def test_many_workers_are_counted_and_not_all_listed() -> None:
    """A pool of thousands tells its first workers by name, and how many there are."""
    reports = {f"w{number:04}": told(f"w{number:04}") for number in range(MOST_WORKERS + 5)}
    detail = detail_of(KEY, Seen(pool(), turn(reports=reports)), counts={}, letters=[], decisions=[])
    workers: Any = detail["workers"]
    assert (workers["total"], len(workers["rows"])) == (MOST_WORKERS + 5, MOST_WORKERS)


def test_a_dead_letter_has_no_body() -> None:
    """Id, code, reason, time and attempts; the body, which is somebody's prompt, is dropped where it is read."""
    fields = [b"body", SECRET.encode(), b"id", HOSTILE.encode(), b"at_ms", b"1700000000000", b"attempts", b"x"]
    [letter] = letters_of([(b"1-0", fields)], "redis:6379")  # type: ignore[misc]
    assert letter == {"entry": "1-0", "id": HOSTILE, "code": "", "reason": "", "at": 1_700_000_000.0, "attempts": None}


def test_the_past_keeps_what_differs() -> None:
    """Turns that decide the same make one line; a pool's lines are bounded, and end with it."""
    past = Past()
    for _ in range(3):
        past.turn(KEY, turn())
    assert len(past.of(KEY)) == 1
    assert past.newest() == []  # nothing was resized
    for size in range(100):
        past.turn(KEY, turn(decision=decision(size), resized=(size, size + 1)))
    assert len(past.of(KEY)) == PER_POOL
    assert (past.of(KEY)[0]["before"], past.of(KEY)[0]["after"]) == (99, 100)
    assert len(past.newest(1_000)) == OF_ALL
    past.forget(KEY)
    assert (past.of(KEY), past.newest()) == ([], [])


class Cluster:
    """Pools of a test."""

    def __init__(self) -> None:
        self.pools: dict[tuple[str, str], Seen] = {}

    @property
    def known(self) -> list[tuple[str, str]]:
        return list(self.pools)

    def seen(self, key: tuple[str, str]) -> Seen | None:
        return self.pools.get(key)


@pytest.fixture
def ticking() -> Iterator[float]:
    """Each reading of this clock is ten seconds later."""
    return iter(range(0, 100_000, 10))  # type: ignore[return-value]


async def test_a_board_tells_what_changed(ticking: Iterator[float]) -> None:
    """Who says up to where they have heard gets the lines that changed since and the pools that went, nothing else; an
    equal turn is no change, and a revision of elsewhere gets the whole."""
    cluster = Cluster()
    board = Board(cluster, Past(), lambda: next(ticking))
    cluster.pools = {("lms", name): Seen(pool(), turn()) for name in ("a", "b", "c")}
    await board.refresh()
    first = board.since(None)
    assert (first.whole, len(first.rows)) == (True, 3)

    cluster.pools["lms", "b"] = Seen(pool(), turn(QueueBacklog(9, 0, 0, None)))
    cluster.pools["lms", "a"] = Seen(pool(), turn())
    del cluster.pools["lms", "c"]
    await board.refresh()
    news = board.since(first.revision)
    assert (news.whole, news.gone, [json.loads(row)["name"] for row in news.rows]) == (False, [("lms", "c")], ["b"])
    again = board.since(news.revision)
    assert (again.whole, again.rows, again.gone) == (False, [], [])
    assert board.since(news.revision + 1).whole
    await board.letters.close()


async def test_who_slept_too_long_gets_the_whole(ticking: Iterator[float]) -> None:
    """Pools that went are remembered for a while; who last heard before that starts anew, so none stays for ever."""
    cluster = Cluster()
    board = Board(cluster, Past(), lambda: next(ticking))
    cluster.pools = {("lms", f"{number}"): Seen(pool(), turn()) for number in range(1_200)}
    await board.refresh()
    heard = board.since(None).revision
    cluster.pools.clear()
    await board.refresh()
    assert board.since(heard).whole
    await board.letters.close()


async def test_those_who_look_at_once_cost_as_much_as_one() -> None:
    """Within a second the pools are looked at once, however many ask."""
    cluster = Cluster()
    cluster.pools = {KEY: Seen(pool(), turn())}
    board = Board(cluster, Past(), lambda: AT)
    await board.refresh()
    cluster.pools[KEY] = Seen(pool(), turn(GONE))
    revision = board.since(None).revision
    await board.refresh()
    assert board.since(revision).rows == []
    await board.letters.close()


LOCAL = {"Host": "localhost:8080"}


@pytest.mark.parametrize(
    ("headers", "peer", "access", "refused"),
    [
        (LOCAL, "127.0.0.1", "local", ""),
        ({"Host": "[::1]:8080"}, "::1", "local", ""),
        (LOCAL, "10.0.0.7", "local", "own machine alone"),
        (LOCAL, "127.0.0.6", "local", "own machine alone"),
        (LOCAL, None, "local", "own machine alone"),
        ({"Host": "10.0.0.1:8080"}, "10.0.0.7", "all", ""),
        ({"Host": "operator.llm.svc:8080"}, "10.0.0.7", "all", ""),
        ({"Host": "OPERATOR.llm.svc.cluster.local."}, "10.0.0.7", "all", ""),
        ({"Host": "pools.example.com"}, "10.0.0.7", "all", ""),
        ({"Host": "evil.example.com"}, "127.0.0.1", "local", "WEB_HOSTS"),
        ({"Host": "operator.svc.evil.com"}, "10.0.0.7", "all", "WEB_HOSTS"),
        (LOCAL | {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, "127.0.0.1", "local", "other sites"),
        (LOCAL | {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, "127.0.0.1", "local", ""),
    ],
    ids=[
        *("this machine", "by IPv6", "elsewhere", "a sidecar's own address", "no address", "an address", "a Service"),
        *("a Service's whole name", "a name that was given", "a rebound name", "a name that looks like a Service's"),
        *("another site's script", "a link from another site"),
    ],
)
def test_who_may_read(headers: dict[str, str], peer: str | None, access: Any, refused: str) -> None:
    """By default this machine alone; under no name that a page of elsewhere could have; for no other site's script."""
    why = refusal(headers, peer, access, {"pools.example.com"})
    assert refused in why if refused and why else why is None and not refused
