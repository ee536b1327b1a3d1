"""The framing of a job that a worker has touched: one for Python and one for Lua, and both read the same."""

import json
from importlib.resources import files

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmpool_contract.element import Element, decode, encode

TEXT = st.text(max_size=20).filter(lambda text: "\ud800" not in text)
ELEMENTS = st.builds(
    Element,
    body=st.binary(max_size=200),
    origin=st.from_regex(r"[0-9a-f]{1,16}:[0-9]{1,4}", fullmatch=True),
    priority=st.sampled_from(["high", "normal", "low"]),
    deliveries=st.integers(0, 10**6),
    attempts=st.integers(0, 10**6),
    first_claimed_ms=st.integers(0, 10**14),
    worker=TEXT,
    job_id=TEXT,
)


@given(ELEMENTS)
def test_encoding_is_read_back(element: Element) -> None:
    """Every byte of a body, whatever it is, comes back unchanged."""
    assert decode(encode(element)) == element


@given(st.binary(max_size=200))
def test_anything_else_is_a_bare_body(raw: bytes) -> None:
    """What has no whole header is taken as it is: a producer's bytes are never misread, and never refused here."""
    assert decode(raw) == Element(body=raw) or raw.startswith(b"\x011|")


@pytest.mark.parametrize(
    "raw", [b"\x01", b"\x011|a:1|n|1|0|5|2|3|", b"\x011|a:1|n|1|0|5|9|9|short", b"\x012|a:1|n|1|0|5|0|0|{}"]
)
def test_a_broken_header_is_a_bare_body(raw: bytes) -> None:
    """A header that was cut, or of a version that isn't known, is a malformed job like any other."""
    assert decode(raw) == Element(body=raw)


READ_IN_LUA = """
local e = split(ARGV[1], 'n')
local first = string.format('%.0f', e.first)
return { e.origin, e.priority, e.deliveries, e.attempts, first, e.worker, e.id, e.body, join(e) }
"""


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.one_of(ELEMENTS.map(encode), st.binary(max_size=60), st.binary(max_size=60).map(lambda b: b"\x011|" + b)))
def test_lua_reads_the_same(redis_url: str, raw: bytes) -> None:
    """The scripts' reading of an element is Python's, for whole, broken and foreign ones."""
    common = (files("llmpool_worker.queue") / "lua" / "common.lua").read_text()
    with redis.Redis.from_url(redis_url) as client:
        origin, priority, deliveries, attempts, first, worker, job_id, body, again = client.eval(
            common + READ_IN_LUA, 0, raw
        )
    ours = decode(raw)
    assert body == ours.body
    assert (int(deliveries), int(attempts), int(first)) == (ours.deliveries, ours.attempts, ours.first_claimed_ms)
    assert (worker.decode("utf-8", "replace"), job_id.decode("utf-8", "replace")) == (ours.worker, ours.job_id)
    assert priority.decode() == ours.priority[0]
    assert origin.decode("ascii", "replace") == ours.origin
    if ours.origin:
        assert decode(again) == ours


def test_bodies_are_json_untouched() -> None:
    """A 20-digit id and an empty list survive: the reason why Lua never re-encodes a body."""
    body = b'{"id": 12345678901234567890, "stop": []}'
    element = decode(encode(Element(body=body, origin="a:1")))
    assert element.body == body
    assert json.loads(element.body)["id"] == 12345678901234567890
