"""``llmpool queues`` and ``llmpool dead``: counts, reasons, and never a prompt unless asked for."""

import json
import time

import pytest
from redis import Redis
from typer.testing import CliRunner
from typer.testing import Result as Outcome

from llmpool_cli.main import app
from llmpool_cli.terminal import duration
from llmpool_contract import QueueKeys

CHAT = QueueKeys("llm-chat")
BODY = b'{"id":"job1","type":"chat","messages":[{"role":"user","content":"geheim"}]}'


def llmpool(redis_url: str, *args: str, stdin: str = "") -> Outcome:
    return CliRunner().invoke(app, args, input=stdin, env={"REDIS_URL": redis_url, "COLUMNS": "200"})


def bury(redis_url: str, queue: str = "llm-chat", entry: str = "*", body: bytes = BODY, **fields: str | int) -> str:
    letter: dict[str, str | int | bytes] = {
        "code": "invalid",
        "reason": "model: missing",
        "id": "job1",
        "body": body,
    }
    letter |= {"priority": "normal", "attempts": 0, "deliveries": 1, "at_ms": 1_700_000_000_000, "worker": "w1"}
    letter |= {"size": len(body)} | fields
    with Redis.from_url(redis_url) as redis:
        redis.hincrby(QueueKeys(queue).stats, "dead_bytes", len(body) + len(str(letter["reason"])))
        return redis.xadd(QueueKeys(queue).dead, letter, id=entry).decode()  # type: ignore[arg-type]


def test_queues_are_counted(redis_url: str) -> None:
    """One aligned row per queue, the default ones unless named, zero where nothing is and '-' where nobody says."""
    with Redis.from_url(redis_url) as redis:
        redis.rpush("{llm-chat}:high", "x")
        redis.rpush(
            "llm-chat", f'{{"type":"generate","model":"m","prompt":"p","enqueued_at":{time.time() - 125}}}', "x"
        )
        redis.hset(CHAT.claimed, "t:1", "x")
        redis.zadd(CHAT.delayed, {"a": 1, "b": 9e15})
    bury(redis_url)
    lines = [line.split() for line in llmpool(redis_url, "queues").stdout.splitlines()]
    assert lines[0] == ["QUEUE", "HIGH", "NORMAL", "LOW", "DUE", "DELAYED", "LIMIT", "IN", "FLIGHT", "DEAD", "OLDEST"]
    assert lines[1][:9] == ["llm-chat", "1", "2", "0", "1", "1", "-", "1", "1"]
    assert lines[1][9].startswith("2m")
    assert lines[2] == ["llm-generate", "0", "0", "0", "0", "0", "-", "0", "0", "-"]
    named = json.loads(llmpool(redis_url, "queues", "-q", "llm-chat", "-q", "other", "-o", "json").stdout)
    assert [(state["queue"], state["normal"], state["dead"]) for state in named] == [
        ("llm-chat", 2, 1),
        ("other", 0, 0),
    ]


def test_limit_is_set_and_lifted(redis_url: str) -> None:
    """--limit is the queue's for every client, shown beside its counts; --no-limit lifts it."""
    shown = llmpool(redis_url, "queues", "-q", "llm-chat", "-q", "q", "--limit", "1").stdout.splitlines()
    assert [line.split()[6] for line in shown] == ["LIMIT", "1", "1"]
    job = ("submit", "chat", "-m", "m", "hello", "--no-wait")
    assert llmpool(redis_url, *job).exit_code == 0
    refused = llmpool(redis_url, *job)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "queue llm-chat is full: 1 waiting" in refused.stderr
    lifted = llmpool(redis_url, "queues", "-q", "llm-chat", "--no-limit", "-o", "json")
    assert json.loads(lifted.stdout)[0]["max_queued"] is None
    assert llmpool(redis_url, *job).exit_code == 0


@pytest.mark.parametrize(
    "args",
    [["--limit", "5"], ["--no-limit"], ["-q", "q", "--limit", "5", "--no-limit"], ["-q", "q", "--limit", "-1"]],
    ids=" ".join,
)
def test_limit_wrong_usage(redis_url: str, args: list[str]) -> None:
    """A limit is for named queues and from 0: anything else is exit status 2 and changes nothing."""
    assert llmpool(redis_url, "queues", *args).exit_code == 2
    with Redis.from_url(redis_url) as redis:
        assert redis.dbsize() == 0


def test_list_never_prints_bodies(redis_url: str) -> None:
    """The list has entry, code, job and reason, safe to print, and neither text nor JSON has the prompt."""
    entry = bury(redis_url, id="job\x1b1")
    listed = llmpool(redis_url, "dead", "list")
    assert entry in listed.stdout
    assert "model: missing" in listed.stdout
    assert "job1" in listed.stdout
    as_json = llmpool(redis_url, "dead", "list", "-o", "json")
    [letter] = json.loads(as_json.stdout)
    assert (letter["entry"], letter["size"], letter["at"]) == (entry, len(BODY), "2023-11-14T22:13:20+00:00")
    assert "geheim" not in listed.stdout + as_json.stdout
    assert "body" not in letter


def test_list_says_when_it_is_cut(redis_url: str) -> None:
    """--limit bounds each queue, oldest first, and says that there is more; an empty list says so."""
    entries = [bury(redis_url) for _ in range(3)]
    cut = llmpool(redis_url, "dead", "list", "--limit", "2")
    assert [line.split()[1] for line in cut.stdout.splitlines()[1:]] == entries[:2]
    assert "more than 2" in cut.stderr
    empty = llmpool(redis_url, "dead", "list", "-q", "other")
    assert (empty.exit_code, empty.stdout, "no dead letters in other" in empty.stderr) == (0, "", True)


def test_show_prints_the_body_only_when_asked(redis_url: str) -> None:
    """show tells why without the prompt; --body gives the producer's bytes and nothing else."""
    entry = bury(redis_url)
    shown = llmpool(redis_url, "dead", "show", entry)
    assert "reason:      model: missing" in shown.stdout
    assert "geheim" not in shown.stdout
    assert llmpool(redis_url, "dead", "show", entry, "--body").stdout_bytes == BODY
    gone = llmpool(redis_url, "dead", "show", "1-1")
    assert (gone.exit_code, "no dead letter 1-1 in llm-chat" in gone.stderr) == (1, True)


def test_entry_in_two_queues_must_be_told_apart(redis_url: str) -> None:
    """The same address in two queues is not guessed at."""
    bury(redis_url, entry="5-1")
    bury(redis_url, "llm-embed", entry="5-1")
    both = llmpool(redis_url, "dead", "purge", "5-1", "--yes")
    assert (both.exit_code, "say which --queue" in both.stderr) == (2, True)
    assert llmpool(redis_url, "dead", "purge", "5-1", "--yes", "-q", "llm-embed").stdout == "removed 1\n"


def test_replay_one_and_all(redis_url: str) -> None:
    """Named entries and --all go back to their lists; a truncated one stays, is told, and makes the status 1."""
    first = bury(redis_url, priority="low")
    assert llmpool(redis_url, "dead", "replay", first).stdout == "replayed 1\n"
    for _ in range(45):
        bury(redis_url)
    cut = bury(redis_url, size=9_999)
    done = llmpool(redis_url, "dead", "replay", "--all")
    assert (done.exit_code, done.stdout) == (1, "replayed 45, 1 could not be\n")
    assert cut in done.stderr
    with Redis.from_url(redis_url) as redis:
        assert (redis.lrange(CHAT.low, 0, -1), redis.llen("llm-chat"), redis.xlen(CHAT.dead)) == ([BODY], 45, 1)


def test_purge_asks_first(redis_url: str) -> None:
    """Nothing is removed without a yes: not at 'n', not at the end of stdin; --yes doesn't ask."""
    bury(redis_url)
    for answer in ("n\n", ""):
        asked = llmpool(redis_url, "dead", "purge", "--all", stdin=answer)
        assert (asked.exit_code, "Remove all dead letters of llm-chat" in asked.stdout) == (1, True)
    with Redis.from_url(redis_url) as redis:
        assert redis.xlen(CHAT.dead) == 1
        assert "removed 1" in llmpool(redis_url, "dead", "purge", "--all", stdin="y\n").stdout
        assert (redis.xlen(CHAT.dead), redis.hget(CHAT.stats, "dead_bytes")) == (0, b"0")


@pytest.mark.parametrize(
    "args", [["replay"], ["replay", "1-1", "--all"], ["purge", "--yes"], ["show", "x"]], ids=" ".join
)
def test_wrong_usage_is_exit_status_2(redis_url: str, args: list[str]) -> None:
    """Neither entries nor --all, both, or no address at all: told, and nothing happens."""
    done = llmpool(redis_url, "dead", *args)
    assert (done.exit_code, "llmpool dead list" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.4, "0s"), (59, "59s"), (185, "3m05s"), (7_620, "2h07m"), (273_600, "3d04h")],
    ids=str,
)
def test_durations(seconds: float | None, text: str) -> None:
    """Durations are short, and a missing one is not zero."""
    assert duration(seconds) == text
