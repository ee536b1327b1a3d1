"""Files that are no batches: refused whole, with the lines that are wrong, before anything is sent."""

import json
from pathlib import Path
from typing import Any

import pytest

from llmpool_client import BadBatch
from llmpool_client.batches import check_bodies, examine, file
from tests.support.batch_files import chat_body, chats, line, write


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], "no request in it"),
        (["", "   "], "no request in it"),
        (["{"], "line 1: not JSON"),
        ([line("a"), "[1]"], "line 2: wanted a JSON object, got an array of 1"),
        (['{"custom_id":"a","custom_id":"b"}'], "line 1: key custom_id is there twice"),
        (['{"custom_id":NaN}'], "line 1: NaN is not a JSON number"),
        (["[" * 100_000], "line 1: nested too deeply"),
        ([line("a", extra=1)], "line 1: extra: unknown field, allowed are body, custom_id, method, url"),
        ([line("a", method="GET")], 'line 1: method: allowed is "POST"'),
        ([line("a", url="/v1/responses")], "line 1: url: got '/v1/responses', allowed are /v1/chat/completions"),
        ([line("a", url=["x"])], "line 1: url: got ['x']"),
        ([line("a", body="secret")], "line 1: body: wanted an object, got a text"),
        ([{"method": "POST", "url": "/v1/embeddings", "body": {}}], "line 1: custom_id: wanted a text, got nothing"),
        ([line(7)], "line 1: custom_id: wanted a text, got 7"),
        ([line("")], "line 1: custom_id: 0 characters, allowed are 1 to 512"),
        ([line("x" * 513)], "line 1: custom_id: 513 characters"),
        ([line("a"), line("b"), line("a")], "line 3: custom_id: the same as in line 1"),
        ([line("a"), line("b", url="/v1/embeddings")], "line 2: url: /v1/embeddings, but line 1 has"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_files(tmp_path: Path, lines: list[Any], told: str) -> None:
    """Each fault is told with its line and what is allowed, without a text of the body."""
    with pytest.raises(BadBatch) as caught:
        examine(write(tmp_path / "b.jsonl", lines))
    [fault] = caught.value.faults
    assert told in fault
    assert "secret" not in str(caught.value)


def test_all_faults_are_told_up_to_twenty(tmp_path: Path) -> None:
    """Not only the first fault is told; a file that is something else altogether isn't read to its end."""
    with pytest.raises(BadBatch) as caught:
        examine(write(tmp_path / "b.jsonl", [line("a"), "x", line("a")]))
    assert [fault.split(":")[0] for fault in caught.value.faults] == ["line 2", "line 3"]
    with pytest.raises(BadBatch) as caught:
        examine(write(tmp_path / "b.jsonl", ["x"] * 30))
    assert len(caught.value.faults) == 20


def test_not_utf_8(tmp_path: Path) -> None:
    """Bytes that are no text are a fault of their line."""
    path = tmp_path / "b.jsonl"
    path.write_bytes(json.dumps(line("a")).encode() + b"\n\xff\xfe\n")
    with pytest.raises(BadBatch, match="line 2: not UTF-8"):
        examine(path)


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests, bytes of the file and of a line are bounded, by OpenAI's numbers and our own."""
    assert (file.MAX_REQUESTS, file.MAX_FILE_BYTES) == (50_000, 209_715_200)
    path = chats(tmp_path / "b.jsonl", 3)
    for name, value, told in (
        ("MAX_REQUESTS", 2, "more than 2 requests"),
        ("MAX_FILE_BYTES", 100, "allowed are 100"),
        ("MAX_LINE_BYTES", 50, "line 1: longer than 50 bytes"),
    ):
        with monkeypatch.context() as patched, pytest.raises(BadBatch, match=told):
            patched.setattr(file, name, value)
            examine(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    """A path without a file is the system's own error."""
    with pytest.raises(FileNotFoundError):
        examine(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        examine(tmp_path)


def test_blank_lines_and_a_byte_order_mark_are_nothing(tmp_path: Path) -> None:
    """Some editors' traces in a file don't change what it is."""
    plain, marked = chats(tmp_path / "a.jsonl", 2), tmp_path / "b.jsonl"
    marked.write_bytes(b"\xef\xbb\xbf" + plain.read_bytes().replace(b"\n", b"\n\n"))
    found = examine(marked)
    assert (found.total, found.digest) == (2, examine(plain).digest)
    assert [(each.line, each.custom_id) for each in found.requests()] == [(1, "request 0"), (3, "request 1")]


def test_a_file_that_changes_is_noticed(tmp_path: Path) -> None:
    """What was examined is what is sent, or nothing more is."""
    found = examine(chats(tmp_path / "b.jsonl", 2))
    requests = found.requests()
    next(requests)
    chats(tmp_path / "b.jsonl", 3)
    for reading in (requests, found.requests()):
        with pytest.raises(BadBatch, match="changed"):
            next(reading)


def test_bodies_are_checked_apart(tmp_path: Path) -> None:
    """A body that no job can stand for doesn't spoil the file: it is told with its line."""
    lines = [line("a"), line("b", chat_body(n=2)), line("c", {}), line("d", chat_body("x" * 1_100_000))]
    found = list(check_bodies(examine(write(tmp_path / "b.jsonl", lines))))
    assert [(request.line, request.custom_id, fault.code) for request, fault in found] == [
        (2, "b", "invalid"),
        (3, "c", "invalid"),
        (4, "d", "too_large"),
    ]
