"""When two requests are the same, and what an answer is kept as."""

import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpool_contract import Job
from llmpool_worker.backends.base import Final, Text, Thinking, ToolCalls
from llmpool_worker.cache import Serving, cache_keys, uncacheable
from llmpool_worker.cache.keys import DECIDING
from llmpool_worker.cache.values import Gathered, KeptAnswer, KeptVector

SAME_ANSWER = {
    "id", "stream", "deadline", "timeout_ms", "enqueued_at", "fallback_models", "reply_to", "cache", "traceparent",
    "metadata",
}  # fmt: skip
"""Fields of a job that its answer doesn't depend on."""


def chat(**fields: Any) -> Job:
    options = {"temperature": 0, "seed": 7}
    given = {"type": "chat", "model": "m", "messages": [{"role": "user", "content": "Hi"}], "options": options}
    return Job.model_validate(given | {"cache": True} | fields)


def generate(**fields: Any) -> Job:
    given = {"type": "generate", "model": "m", "prompt": "Hi", "options": {"temperature": 0, "seed": 7}, "cache": True}
    return Job.model_validate(given | fields)


def embed(*texts: str, **fields: Any) -> Job:
    return Job.model_validate({"type": "embed", "model": "m", "input": list(texts), "cache": True} | fields)


def key(job: Job, serving: Serving | None = None, *, shared: bool = False) -> str:
    [found] = cache_keys(job, serving or Serving(), shared=shared)
    return found


def test_each_field_of_a_job_decides_or_doesn_t() -> None:
    """A field that is added to jobs must be put on one side or the other, or two questions would share an answer."""
    assert {*DECIDING, "model", "tenant", "input"} | SAME_ANSWER == set(Job.model_fields)


@pytest.mark.parametrize(
    ("job", "other"),
    [
        (chat(), generate()),
        (chat(), chat(model="m2")),
        (chat(), chat(tenant="t")),
        (chat(tenant="t"), chat(tenant="all")),
        (chat(), chat(messages=[{"role": "system", "content": "Hi"}])),
        (chat(), chat(messages=[{"role": "user", "content": "Hi", "images": ["AAAA"]}])),
        (chat(), chat(options={"temperature": 0, "seed": 8})),
        (chat(), chat(options={"temperature": 0, "seed": 7, "top_k": 1})),
        (chat(), chat(options={"temperature": 0, "seed": 7, "stop": ["x"]})),
        (chat(), chat(format="json")),
        (chat(format={"a": 1, "b": 2}), chat(format={"b": 2, "a": 1})),
        (chat(), chat(think=False)),
        (chat(), chat(tools=[{"type": "function"}])),
        (generate(), generate(prompt="Hi ")),
        (generate(), generate(system="s")),
        (generate(prompt="ab", system="c"), generate(prompt="a", system="bc")),
        (generate(), generate(images=["AAAA"])),
    ],
    ids=[
        "type", "model", "tenant", "tenant-all", "role", "image", "seed", "option", "stop", "format", "order", "think",
        "tools", "prompt", "system", "border", "images",
    ],
)  # fmt: skip
def test_other_questions_have_other_keys(job: Job, other: Job) -> None:
    """Whatever a model gets to see, and who asks, tells two questions apart."""
    assert key(job) != key(other)


@pytest.mark.parametrize(
    "other",
    [
        chat(model="m:latest"),
        chat(id="1", stream=True, deadline=5, timeout_ms=5, enqueued_at=1.0, metadata={"a": 1}, fallback_models=["n"]),
        chat(options={"seed": 7, "temperature": 0.0}),
    ],
    ids=["latest", "delivery", "number"],
)
def test_the_same_question_has_the_same_key(other: Job) -> None:
    """How a job is delivered, and how a name or number is spelt, isn't part of the question."""
    assert key(other) == key(chat())


def test_what_serves_the_model_is_part_of_the_question() -> None:
    """Other weights, another kind of server and other runner options answer otherwise; their order doesn't count."""
    servings = [Serving(), Serving(backend="ollama"), Serving(digest="sha256:1"), Serving(options={"num_ctx": 1})]
    assert len({key(chat(), serving) for serving in servings}) == len(servings)
    assert key(chat(), Serving(options={"a": 1, "b": 2})) == key(chat(), Serving(options={"b": 2, "a": 1}))


def test_tenants_share_answers_only_where_they_may() -> None:
    """Shared, all tenants' questions are one; not shared, not even one without a tenant finds another's."""
    asking = [chat(), chat(tenant="a"), chat(tenant="b")]
    assert len({key(job) for job in asking}) == 3
    assert len({key(job, shared=True) for job in asking}) == 1
    assert key(chat(), shared=True) not in {key(job) for job in asking}


@pytest.mark.parametrize(
    ("job", "why"),
    [
        (chat(cache=False), "cache isn't asked for"),
        (embed("a", cache=False), "cache isn't asked for"),
        (chat(options=None), "options.temperature isn't 0"),
        (chat(options={"seed": 7}), "options.temperature isn't 0"),
        (chat(options={"seed": 7, "temperature": 0.1}), "options.temperature isn't 0"),
        (generate(options={"temperature": 0}), "options.seed isn't given"),
    ],
    ids=["not-asked", "not-asked-embed", "no-options", "default", "warm", "no-seed"],
)
def test_what_may_be_answered_otherwise_isn_t_cached(job: Job, why: str) -> None:
    """Such a job has no key, and the reason says which of its fields would have to change."""
    assert uncacheable(job) == why
    assert cache_keys(job, Serving(), shared=False) == []


def test_each_text_has_a_key_of_its_own() -> None:
    """A text is found whatever job it comes in and whoever its neighbours are; texts aren't taken for each other."""
    one, two, three = cache_keys(embed("a", "b", "a\nb"), Serving(), shared=False)
    assert len({one, two, three}) == 3
    assert cache_keys(embed("b"), Serving(), shared=False) == [two]
    alone = Job(type="embed", model="m", input="a", cache=True)
    assert cache_keys(alone, Serving(), shared=False) == [one]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1), st.none() | st.integers(0, 2**32 - 2))
def test_a_vector_comes_back_to_the_last_digit(vector: list[float], tokens: int | None) -> None:
    """What a hit answers is what the model answered, and a count that nobody knows stays unknown."""
    assert KeptVector.from_bytes(KeptVector(vector, tokens).to_bytes()) == KeptVector(vector, tokens)


@pytest.mark.parametrize("raw", [b"", b"abcd", b"\0" * 11, struct.pack("<Id", 1, math.nan)], ids=len)
def test_bytes_that_are_no_vector_are_refused(raw: bytes) -> None:
    """Another program's value, or half of one, is never taken for an embedding."""
    with pytest.raises(ValueError, match="vector"):
        KeptVector.from_bytes(raw)


@pytest.mark.parametrize("vector", [["a"], [None], [10**400]], ids=["text", "null", "huge"])
def test_what_is_no_number_isn_t_kept(vector: list[Any]) -> None:
    """A server may answer anything."""
    with pytest.raises(ValueError, match="wanted numbers"):
        KeptVector(vector).to_bytes()


def test_an_answer_is_gathered_and_told_again() -> None:
    """All that a model said comes back: text and thought in one piece each, calls, and what it took."""
    gathered = Gathered(100)
    calls = [{"function": {"name": "f", "arguments": {}}}]
    for event in (Thinking("h"), Thinking("m"), Text("a"), Text("b"), ToolCalls(calls), Final("stop", 3, 2, 1.5)):
        assert gathered.whole() is None
        gathered.take(event)
    answer = gathered.whole()
    assert answer is not None
    told = KeptAnswer.model_validate_json(answer.to_json()).events()
    assert told == [Thinking("hm"), Text("ab"), ToolCalls(calls), Final("stop", 3, 2, cached=True)]


def test_a_long_answer_isn_t_gathered() -> None:
    """Past the bound nothing is held, so that a worker's memory isn't the price of a cache."""
    gathered = Gathered(10)
    for _ in range(3):
        gathered.take(Text("12345"))
    gathered.take(Final("stop"))
    assert gathered.whole() is None
