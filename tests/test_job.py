"""The contract's way in: whatever bytes come, a Job or a BadJob that says why."""

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpool_contract import BadJob, Job, parse_job

GOOD = {"id": "1", "type": "chat", "model": "gemma3:270m", "messages": [{"role": "user", "content": "hi"}]}
SECRET = "the prompt that nobody may see"


def encoded(**changes: object) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


@pytest.mark.parametrize(
    ("body", "code", "says", "job_id"),
    [
        pytest.param(b"", "not_json", "not JSON", None, id="empty"),
        pytest.param(b"hello", "not_json", "not JSON", None, id="no-json"),
        pytest.param(b"\xff\xfe", "not_json", "not UTF-8", None, id="not-utf8"),
        pytest.param(b"\xef\xbb\xbf{}", "not_json", "BOM", None, id="bom"),
        pytest.param(b"[]", "not_json", "got an array", None, id="array"),
        pytest.param(b"null", "not_json", "got null", None, id="null"),
        pytest.param(b"1", "not_json", "got a number", None, id="number"),
        pytest.param(b'{"id":"1","x":NaN}', "not_json", "NaN", None, id="nan"),
        pytest.param(b'{"id":"1","x":-Infinity}', "not_json", "Infinity", None, id="infinity"),
        pytest.param(b'{"id":"1","x":1e999}', "not_json", "too large", None, id="beyond-a-float"),
        pytest.param(b'{"id":"1","x":' + b"9" * 5000 + b"}", "not_json", "too many digits", None, id="5000-digits"),
        pytest.param(b"[" * 100_000, "not_json", "nested too deeply", None, id="100000-arrays"),
        pytest.param(b'{"a":' * 100_000, "not_json", "nested too deeply", None, id="100000-objects"),
        pytest.param(b'{"id":"1","id":"2"}', "not_json", "key id is there twice", None, id="duplicate-key"),
        pytest.param(b'{"id":"1","x":"\\ud800"}', "not_json", "lone surrogate", "1", id="lone-surrogate"),
        pytest.param(b'{"id":"\\ud800"}', "not_json", "lone surrogate", None, id="surrogate-in-id"),
        pytest.param(encoded(colour=1), "invalid", "colour: unknown field", "1", id="unknown-field"),
        pytest.param(encoded(id=7), "invalid", "id: input should be a valid string, got a number", None, id="id-int"),
        pytest.param(encoded(id=""), "invalid", "id:", None, id="id-empty"),
        pytest.param(encoded(id="a b"), "invalid", "id:", None, id="id-with-space"),
        pytest.param(encoded(type="shout"), "invalid", "'chat', 'generate' or 'embed'", "1", id="type"),
        pytest.param(encoded(type=None), "invalid", "type:", "1", id="type-null"),
        pytest.param(encoded(model=""), "invalid", "model:", "1", id="model-empty"),
        pytest.param(encoded(model="a\nb"), "invalid", "model:", "1", id="model-newline"),
        pytest.param(encoded(messages=[]), "invalid", "at least one", "1", id="no-messages"),
        pytest.param(
            encoded(messages=[{"role": "user", "content": "  "}]), "invalid", "all are empty", "1", id="blank"
        ),
        pytest.param(encoded(messages="x"), "invalid", "messages:", "1", id="messages-text"),
        pytest.param(
            encoded(messages=[{"role": "user", "content": 3}]), "invalid", "messages.0.content", "1", id="content-int"
        ),
        pytest.param(encoded(prompt="x"), "invalid", "not for a chat job", "1", id="prompt-in-chat"),
        pytest.param(encoded(options={"num_ctx": 4}), "invalid", "options.num_ctx: unknown", "1", id="runner-option"),
        pytest.param(encoded(options={"temperature": "1"}), "invalid", "temperature", "1", id="option-text"),
        pytest.param(encoded(keep_alive=0), "invalid", "keep_alive: unknown field", "1", id="keep-alive"),
        pytest.param(encoded(stream=1), "invalid", "stream:", "1", id="stream-int"),
        pytest.param(encoded(timeout_ms=0), "invalid", "timeout_ms:", "1", id="timeout-zero"),
        pytest.param(encoded(deadline="soon"), "invalid", "deadline:", "1", id="deadline-text"),
        pytest.param(encoded(metadata=json.loads("[" * 80 + "]" * 80)), "invalid", "64 levels", "1", id="deep-array"),
        pytest.param(
            encoded(metadata={"a": json.loads("[" * 80 + "]" * 80)}), "invalid", "64 levels", "1", id="80-levels"
        ),
        pytest.param(b'{"id":"1","type":"generate","model":"m"}', "invalid", "prompt:", "1", id="no-prompt"),
        pytest.param(b'{"id":"1","type":"generate","model":"m","prompt":" "}', "invalid", "prompt:", "1", id="blank-p"),
        pytest.param(b'{"id":"1","type":"embed","model":"m"}', "invalid", "input:", "1", id="no-input"),
        pytest.param(
            b'{"id":"1","type":"embed","model":"m","input":["a",""]}', "invalid", "empty", "1", id="one-empty"
        ),
    ],
)
def test_bad_jobs_are_refused_with_a_reason(body: bytes, code: str, says: str, job_id: str | None) -> None:
    """Each kind of malformed input has its code, a reason that names the fault, and the id where it can be read."""
    with pytest.raises(BadJob) as caught:
        parse_job(body)
    assert (caught.value.code, caught.value.job_id) == (code, job_id)
    assert says in caught.value.reason
    assert len(caught.value.reason) < 1_000


def test_size_is_checked_before_anything_is_parsed() -> None:
    """A body over the bound costs no memory: it isn't even decoded."""
    body = b'{"x":"' + b"a" * 5_000_000 + b'"}'
    tracemalloc.start()
    with pytest.raises(BadJob, match="5000008 bytes, allowed are 1048576"):
        parse_job(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize(
    "body",
    [
        encoded(messages=[{"role": SECRET, "content": SECRET}]),
        encoded(messages=SECRET),
        encoded(model=SECRET + "!"),
        encoded(options=SECRET),
        encoded(deadline=SECRET),
        b'{"id":"1","x":' + json.dumps(SECRET).encode(),
    ],
)
def test_reasons_never_repeat_what_was_given(body: bytes) -> None:
    """A reason goes to logs and dead letters, so it holds no value of the job."""
    with pytest.raises(BadJob) as caught:
        parse_job(body)
    assert SECRET not in caught.value.reason


@given(st.binary(max_size=300))
def test_any_bytes_are_a_job_or_a_bad_job(body: bytes) -> None:
    """No input raises anything else."""
    try:
        found: Job | BadJob = parse_job(body)
    except BadJob as bad:
        found = bad
    assert isinstance(found, Job) or found.reason


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from([*Job.model_fields, "stray"]), JSON, max_size=6))
def test_any_json_object_is_a_job_or_a_bad_job(value: dict[str, object]) -> None:
    """No values of known fields raise anything else, and a job that passes says the same when it is written again."""
    try:
        job = parse_job(json.dumps(value).encode())
    except BadJob:
        return
    again = parse_job(job.model_dump_json(exclude_none=True).encode())
    assert again == job


def test_everything_a_job_may_hold() -> None:
    """All fields of the contract are accepted together."""
    job = parse_job(
        encoded(
            options={"temperature": 0, "seed": 1, "num_predict": 5, "stop": ["x"]},
            format={"type": "object"},
            tools=[{"type": "function", "function": {"name": "f"}}],
            think="low",
            stream=True,
            deadline=1_800_000_000_000,
            timeout_ms=1_000,
            enqueued_at=1_700_000_000.5,
            fallback_models=["a:b"],
            tenant="t",
            reply_to="{llm-chat}:replies",
            cache=True,
            traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            metadata={"a": [1, {"b": None}]},
        )
    )
    assert job.options is not None
    assert job.options.temperature == 0
