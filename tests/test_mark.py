"""The value of an ids key: what workers write, clients read, also where the one is newer than the other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpool_contract.mark import Mark, Note, WaitsFor, read_mark

HANDLES = st.from_regex(r"[0-9A-Za-z:_-]{1,40}", fullmatch=True)
NOTES = st.builds(
    Note,
    code=st.sampled_from(["backend_busy", "timeout"]),
    reason=st.text(max_size=60),
    at_ms=st.integers(0, 2**53),
    due_ms=st.none() | st.integers(0, 2**53),
    attempts=st.none() | st.integers(0, 9),
    waits_for=st.none() | st.builds(WaitsFor, model=st.none() | st.just("m"), retry_budget=st.booleans()),
)


@given(HANDLES, HANDLES, st.none() | NOTES)
def test_a_mark_reads_back(origin: str, handle: str, note: Note | None) -> None:
    """Whatever a worker notes, with line ends and blanks in its reason too, the client reads."""
    mark = Mark(origin, handle, note)
    assert read_mark(mark.to_bytes()) == mark


@pytest.mark.parametrize("raw", [b"queued", b"", b"one", b" a b"])
def test_what_no_worker_wrote_is_no_mark(raw: bytes) -> None:
    """A queued job's value, and a stranger's, are no mark of a claimed job."""
    assert read_mark(raw) is None


def test_newer_notes_are_read() -> None:
    """Fields that this version doesn't know are passed over."""
    mark = read_mark(b'o h {"code":"c","at_ms":1,"colour":2,"waits_for":{"breaker":"m","until_ms":5,"moon":"full"}}')
    assert mark is not None
    assert mark.note == Note(code="c", at_ms=1, waits_for=WaitsFor(breaker="m", until_ms=5))


@pytest.mark.parametrize(
    ("note", "told"), [(b"nonsense", "JSON: "), (b'{"code":"geheim","at_ms":"soon"}', "at_ms: ")], ids=["text", "field"]
)
def test_unreadable_note_says_where(note: bytes, told: str) -> None:
    """A note that can't be read is told as such, by field and never by value; the handles count nevertheless."""
    mark = read_mark(b"o h " + note)
    assert mark is not None
    assert (mark.origin, mark.handle, mark.note) == ("o", "h", None)
    assert mark.note_fault is not None
    assert told in mark.note_fault
    assert "geheim" not in mark.note_fault
