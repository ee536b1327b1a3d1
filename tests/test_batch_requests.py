"""A request's way into a job and its answer's way back: what each field becomes, and that none is dropped."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpool_client.batches import requests
from llmpool_client.batches.counts import BatchState, Counts, RequestState, decide
from llmpool_client.batches.outcomes import Outcome
from llmpool_client.batches.record import Batch, job_id_of
from llmpool_client.batches.requests import Endpoint, job_fields
from llmpool_client.batches.responses import line_of
from llmpool_client.batches.survey import status_in
from llmpool_client.prepare import prepare
from llmpool_client.status import JobStatus
from llmpool_contract import BadJob, Job, JobError, QueueKeys, Result, Status, Usage, parse_job
from tests.support.batch_files import CHAT_URL, chat_body

DOCUMENT = Path(__file__).parents[1] / "docs" / "batches.md"
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "auto"}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"at":"Ulm"}'}}


def batch(endpoint: Endpoint = CHAT_URL, total: int = 4, **fields: Any) -> Batch:
    values: dict[str, Any] = {"id": "b", "queue": "q", "name": "n", "endpoint": endpoint, "digest": "d"}
    values |= {"priority": "low", "total": total, "submitted": total, "created_ms": 1_700_000_000_000}
    return Batch(**(values | {"deadline_ms": 1_800_000_000_000, "expires_ms": 1_900_000_000_000} | fields))


def job_of(url: Endpoint, body: dict[str, Any]) -> Job:
    """The job as a worker reads it."""
    prepared = prepare(job_fields(url, body), {}, queue=None, priority="low", new_id="i", now_s=1.0)
    return parse_job(prepared.body)


def chat_job(**fields: Any) -> Job:
    return job_of(CHAT_URL, chat_body(**fields))


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"max_tokens": 5}, {"num_predict": 5}),
        ({"max_completion_tokens": 5}, {"num_predict": 5}),
        ({"max_tokens": 5, "max_completion_tokens": 5}, {"num_predict": 5}),
        ({"stop": "x"}, {"stop": ["x"]}),
        ({"stop": ["x", "y"]}, {"stop": ["x", "y"]}),
        ({"temperature": 0, "top_p": 0.5, "seed": 7}, {"temperature": 0, "top_p": 0.5, "seed": 7}),
        ({"presence_penalty": 1, "frequency_penalty": -1}, {"presence_penalty": 1, "frequency_penalty": -1}),
        ({"temperature": None, "logit_bias": None}, None),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_sampling_becomes_options(fields: dict[str, Any], options: dict[str, Any] | None) -> None:
    """Lengths, stops and sampling become a job's options; null is the same as absent."""
    found = chat_job(**fields).options
    assert (found and found.model_dump(exclude_none=True)) == options


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, "json"),
        ({"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": {"type": "object"}}},
         {"type": "object"}),
        ({"type": "json_schema", "json_schema": {"name": "n", "description": "d", "schema": {"type": "object"}}},
         {"description": "d", "type": "object"}),
    ],
    ids=["text", "object", "schema", "schema with description"],
)  # fmt: skip
def test_response_format_becomes_format(wanted: dict[str, Any], found: Any) -> None:
    """JSON at large and JSON of a schema become a job's format; a schema's description goes into it."""
    assert chat_job(response_format=wanted).format == found


def test_messages_with_parts_images_and_tools() -> None:
    """Text parts are joined, images stand beside them, a tool's answer bears its call's name, developer is system."""
    turns: list[dict[str, Any]] = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, IMAGE, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "refusal": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "rain", "tool_call_id": "call_1"},
        {"role": "tool", "content": "sun", "tool_call_id": "call_2"},
    ]
    tools = [{"type": "function", "function": {"name": "weather"}}]
    job = job_of(CHAT_URL, {"model": "m", "messages": turns, "tools": tools, "tool_choice": "auto", "n": 1})
    assert [m.model_dump(exclude_defaults=True) for m in job.messages or ()] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "a\nb", "images": ["AAAA"]},
        {
            "role": "assistant",
            "tool_calls": [{"id": "call_1", "function": {"name": "weather", "arguments": {"at": "Ulm"}}}],
        },
        {"role": "tool", "content": "rain", "tool_call_id": "call_1", "tool_name": "weather"},
        {"role": "tool", "content": "sun", "tool_call_id": "call_2"},
    ]
    assert job.tools == tools


def test_who_asks_how_hard_and_why() -> None:
    """user is the tenant, reasoning_effort how the model thinks, metadata the job's own."""
    job = chat_job(user="u1", reasoning_effort="none", metadata={"k": "v"})
    assert (job.tenant, job.think, job.metadata) == ("u1", False, {"k": "v"})
    assert chat_job(reasoning_effort="high").think == "high"


def test_completions_and_embeddings() -> None:
    """/v1/completions is a generate job, /v1/embeddings an embed job."""
    generate = job_of("/v1/completions", {"model": "m", "prompt": ["once"], "max_tokens": 3, "echo": False})
    assert (generate.type, generate.prompt) == ("generate", "once")
    embed = job_of("/v1/embeddings", {"model": "m", "input": ["a", "b"], "encoding_format": "float"})
    assert (embed.type, embed.input) == ("embed", ["a", "b"])


@pytest.mark.parametrize(
    ("url", "body", "told"),
    [
        (CHAT_URL, {}, "body.model: got nothing, wanted a text"),
        (CHAT_URL, {"model": 5}, "body.model: got 5"),
        (CHAT_URL, chat_body(colour="secret"), "body.colour: nothing in a job stands for this field"),
        (CHAT_URL, chat_body(n=2), "body.n: got 2, allowed is 1"),
        (CHAT_URL, chat_body(n=True), "body.n: got true"),
        (CHAT_URL, chat_body(stream=True), "body.stream: got true, allowed is false"),
        (CHAT_URL, chat_body(tool_choice="none"), "body.tool_choice: got a text"),
        (CHAT_URL, chat_body(max_tokens=1, max_completion_tokens=2), "say different things"),
        (CHAT_URL, chat_body(max_tokens=0), "options.num_predict"),
        (CHAT_URL, chat_body(temperature="hot"), "options.temperature"),
        (CHAT_URL, chat_body(response_format={"type": "grammar"}), "body.response_format"),
        (CHAT_URL, chat_body(response_format="json"), "body.response_format"),
        (CHAT_URL, chat_body(response_format={"type": "json_schema", "json_schema": {}}), "json_schema.schema"),
        (CHAT_URL, chat_body(reasoning_effort="secret"), "body.reasoning_effort: got a text, allowed are none"),
        (CHAT_URL, chat_body(metadata=["secret"]), "body.metadata: got an array of 1"),
        (CHAT_URL, {"model": "m"}, "body.messages: got nothing"),
        (CHAT_URL, {"model": "m", "messages": ["secret"]}, "body.messages.0: got a text"),
        (CHAT_URL, {"model": "m", "messages": [{"role": "secret"}]}, "body.messages.0.role"),
        (CHAT_URL, {"model": "m", "messages": [{"role": "user", "content": "x", "name": "secret"}]}, "0.name"),
        (CHAT_URL, {"model": "m", "messages": [{"role": "user", "content": 5}]}, "body.messages.0.content: got 5"),
        (CHAT_URL, {"model": "m", "messages": [{"role": "user", "content": [{"type": "file"}]}]}, "content.0"),
        (CHAT_URL, {"model": "m", "messages": [{"role": "user", "content": "  "}]}, "messages: all are empty"),
        (CHAT_URL, chat_body(tools="secret"), "tools"),
        ("/v1/completions", {"model": "m", "prompt": ["a", "secret"]}, "body.prompt: got an array of 2"),
        ("/v1/completions", {"model": "m", "prompt": "x", "suffix": "secret"}, "body.suffix"),
        ("/v1/completions", {"model": "m", "prompt": "x", "echo": True}, "body.echo: got true"),
        ("/v1/embeddings", {"model": "m", "input": [1, 2]}, "body.input: got an array of 2"),
        ("/v1/embeddings", {"model": "m", "input": "x", "dimensions": 8}, "body.dimensions"),
        ("/v1/embeddings", {"model": "m", "input": "x", "encoding_format": "base64"}, 'allowed is "float"'),
        ("/v1/embeddings", {"model": "m", "input": "x", "temperature": 0}, "body.temperature"),
    ],
    ids=lambda value: value if isinstance(value, str) and value[0] != "/" else "",
)  # fmt: skip
def test_what_no_job_can_do_is_refused(url: Endpoint, body: dict[str, Any], told: str) -> None:
    """Each field that a job can't follow is an error that names it, and never repeats a text."""
    with pytest.raises(BadJob) as caught:
        job_of(url, body)
    assert told in caught.value.reason
    assert "secret" not in caught.value.reason


@pytest.mark.parametrize(
    "image",
    [
        {"url": "https://example/x.png"},
        {"url": "data:text/plain;base64,AAAA"},
        {"url": "data:image/png;base64,AAAA", "detail": "high"},
        {"url": "data:image/png;base64,AAAA", "size": 3},
        {},
    ],
    ids=["fetched", "no image", "detail", "unknown", "nothing"],
)
def test_images_are_data(image: dict[str, Any]) -> None:
    """Workers fetch no images and have one size of them."""
    content = [{"type": "image_url", "image_url": image}]
    with pytest.raises(BadJob, match=r"body\.messages\.0\.content\.0\.image_url"):
        job_of(CHAT_URL, {"model": "m", "messages": [{"role": "user", "content": content}]})


@pytest.mark.parametrize(
    "call",
    [
        {**CALL, "type": "custom"},
        {**CALL, "index": 0},
        {**CALL, "function": {"name": "n", "arguments": "{"}},
        {**CALL, "function": {"name": "n", "arguments": "[]"}},
        {**CALL, "function": {"name": "n", "arguments": "{}", "strict": True}},
        "secret",
    ],
    ids=["type", "unknown", "not JSON", "no object", "unknown within", "a text"],
)
def test_tool_calls_are_checked(call: Any) -> None:
    """An earlier answer's calls must be ones that a job can carry."""
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [call]}]
    with pytest.raises(BadJob, match=r"body\.messages\.1\.tool_calls\.0"):
        job_of(CHAT_URL, {"model": "m", "messages": turns})


@given(
    st.dictionaries(st.text(max_size=12), st.none() | st.booleans() | st.integers() | st.text(max_size=3), max_size=4)
)
def test_no_field_is_dropped(extra: dict[str, Any]) -> None:
    """A body with any further field that says something is either refused, or the field is one of the documented."""
    known = requests._FIELDS["chat"] | requests._ONLY["chat"].keys()
    said = {name for name, value in extra.items() if value is not None} - known
    try:
        job_fields(CHAT_URL, extra | chat_body())
    except BadJob:
        return
    assert said == set()


def test_every_field_is_documented() -> None:
    """docs/batches.md names each field of a body that is taken."""
    named = set(re.findall(r"`(\w+)`", DOCUMENT.read_text(encoding="utf-8")))
    taken = {name for names in requests._FIELDS.values() for name in names}
    assert named >= taken | {name for names in requests._ONLY.values() for name in names}


def test_job_ids_are_of_batch_and_custom_id() -> None:
    """The same batch and custom id give the same job; what can't be in a job's id does no harm."""
    ids = {job_id_of(name, custom) for name in ("b1", "b2") for custom in ("a", "a b", "a\nb", "é" * 500)}
    assert len(ids) == 8
    assert all(re.fullmatch(r"b[12]\.[0-9a-f]{20}", each) for each in ids)
    assert job_id_of("b1", "a b") in ids


@pytest.mark.parametrize(
    ("seen", "fields", "state"),
    [
        (["queued"], {}, BatchState.IN_PROGRESS),
        (["succeeded"] * 4, {}, BatchState.COMPLETED),
        (["succeeded", "failed", "refused", "lost"], {}, BatchState.COMPLETED),
        (["succeeded", "expired", "failed", "waiting"], {}, BatchState.IN_PROGRESS),
        (["succeeded", "expired", "failed", "failed"], {}, BatchState.EXPIRED),
        (["succeeded", "running"], {"submitted": 2}, BatchState.SUBMITTING),
        (["succeeded"], {"deadline_ms": 1}, BatchState.EXPIRED),
        (["succeeded", "running"], {"cancelled_ms": 1}, BatchState.CANCELLING),
        (["succeeded"], {"cancelled_ms": 1, "deadline_ms": 1}, BatchState.CANCELLED),
    ],
    ids=lambda value: str(value) if isinstance(value, BatchState) else "",
)
def test_states(seen: list[str], fields: dict[str, Any], state: BatchState) -> None:
    """A batch's state by its requests': what was never pushed ends with the batch's cancelling or deadline."""
    total = 4 if len(seen) != 1 or fields else 1
    found = decide(batch(total=total, **fields), map(RequestState, seen), 1_700_000_000_001)
    assert found.state is state
    assert found.state.is_end is (found.counts.open == 0)


@given(st.lists(st.sampled_from(RequestState)), st.integers(0, 5), st.booleans(), st.booleans())
def test_counts_add_up(seen: list[RequestState], missing: int, stopped: bool, late: bool) -> None:
    """Whatever is seen: the counts add up to the total, and success is only where every request succeeded."""
    fields: dict[str, Any] = {"cancelled_ms": 1} if stopped else {}
    found = decide(batch(total=len(seen) + missing, **fields), seen, 1_900_000_000_000 if late else 0)
    counts = found.counts
    assert counts.total == (
        counts.completed + counts.failed + counts.cancelled + counts.expired + counts.lost + counts.open
    )
    assert counts.completed == seen.count(RequestState.SUCCEEDED)
    assert found.succeeded is (not missing and set(seen) <= {RequestState.SUCCEEDED})


@given(st.sampled_from(Status), st.text(max_size=30))
def test_a_result_s_beginning_tells_its_status(status: Status, content: str) -> None:
    """The first bytes of a result as workers write it are enough to count it; other bytes say nothing."""
    job_id = job_id_of("b", content)
    raw = Result(id=job_id, status=status, content=content, metadata={"status": "failed"}).to_json()
    head = raw[: len(job_id) + 40]
    assert status_in(head, job_id) is JobStatus(status.value)
    assert status_in(b'{"status":"failed",' + head, job_id) is None


def answered(endpoint: Endpoint, **fields: Any) -> Any:
    result = Result(id="j", status=Status.SUCCEEDED, model_used="m", finish_reason="stop", **fields)
    line = line_of(batch(endpoint), Outcome("c", "j", RequestState.SUCCEEDED, result))
    assert line is not None
    assert json.loads(json.dumps(line)) == line
    assert (line["custom_id"], line["error"], line["response"]["status_code"]) == ("c", None, 200)
    return line["response"]["body"]


def test_chat_completion() -> None:
    """A chat job's result as a chat.completion; tool calls have ids and arguments as text."""
    calls = [{"function": {"name": "f", "arguments": {"a": 1}}}, {"id": "x", "function": {"name": "g"}}]
    usage = Usage(input_tokens=2, output_tokens=3)
    body = answered(CHAT_URL, content="", thinking="hm", tool_calls=calls, usage=usage)
    assert body["object"] == "chat.completion"
    assert body["created"] == 1_700_000_000
    assert body["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    [choice] = body["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "reasoning_content": "hm",
        "tool_calls": [
            {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
            {"id": "x", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
    }


def test_other_bodies() -> None:
    """A generate job's result is a text_completion, an embed job's a list; uncounted tokens are null, not zero."""
    text = answered("/v1/completions", content="once")
    assert (text["object"], text["choices"][0]["text"], text["usage"]) == ("text_completion", "once", None)
    vectors = answered("/v1/embeddings", embeddings=[[0.5], [1.0]], usage=Usage(input_tokens=4))
    assert vectors["data"][1] == {"object": "embedding", "index": 1, "embedding": [1.0]}
    assert vectors["usage"] == {"prompt_tokens": 4, "total_tokens": 4}


def test_lines_without_an_answer() -> None:
    """What ended otherwise has an error and no response; what hasn't ended has no line."""
    error = JobError(code="timeout", message="too slow")
    line = line_of(batch(), Outcome("c", "j", RequestState.FAILED, error=error))
    assert line == {"id": "j", "custom_id": "c", "response": None, "error": {"code": "timeout", "message": "too slow"}}
    assert line_of(batch(), Outcome("c", "j", RequestState.RUNNING)) is None


def test_record_and_keys_are_documented() -> None:
    """docs/batches.md has each field of a batch's record, each state and count, and each key as the code spells it."""
    text = DOCUMENT.read_text(encoding="utf-8")
    named = set(re.findall(r"`([^`\n]+)`", text))
    keys = QueueKeys("q")
    assert named >= {keys.batches, keys.batch("<id>"), keys.batch_ids("<id>"), keys.batch_faults("<id>")}
    assert named >= {field.name for field in dataclasses.fields(Batch)} - {"id", "queue"}
    assert named >= {str(state) for state in BatchState} | {field.name for field in dataclasses.fields(Counts)}
