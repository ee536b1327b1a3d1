"""Limits on one job: a job with too much, or with a picture that is none, is told field, number and limit."""

import base64

import pytest

from llmpool_contract import Job
from llmpool_worker.filters import Limits, exceeded, make_limits
from llmpool_worker.settings import Settings

SECRET = "the prompt that nobody may see"
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(40)).decode()
SMALL = Limits(messages=2, input_chars=200, images=2, image_bytes=60, predict=100, embed_inputs=2)


def chat(*contents: str, **changes: object) -> Job:
    messages = [{"role": "user", "content": content} for content in contents]
    return Job.model_validate({"id": "7", "type": "chat", "model": "m", "messages": messages, **changes})


def pictures(*images: str) -> Job:
    return Job(type="generate", model="m", prompt=SECRET, images=list(images))


@pytest.mark.parametrize(
    ("job", "says"),
    [
        pytest.param(chat(SECRET, "b", "c"), "messages: got 3, allowed are 2 (MAX_MESSAGES)", id="messages"),
        pytest.param(
            chat(SECRET * 7), "job: got 210, allowed are 200 (characters of text, MAX_INPUT_CHARS)", id="text"
        ),
        pytest.param(
            Job(type="generate", model="m", prompt=SECRET * 6, system=SECRET), "job: got 210, allowed", id="system-too"
        ),
        pytest.param(chat(SECRET, tools=[{"description": SECRET * 7}]), "job: got 2", id="tools-too"),
        pytest.param(chat(SECRET, format={"description": SECRET * 7}), "job: got 2", id="schema-too"),
        pytest.param(pictures(PNG, PNG, PNG), "images: got 3, allowed are 2 (MAX_IMAGES)", id="images"),
        pytest.param(
            chat("a", messages=[{"role": "user", "images": [PNG, PNG]}, {"role": "user", "images": [PNG]}]),
            "images: got 3",
            id="images-of-all-messages",
        ),
        pytest.param(
            pictures(PNG, base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(53)).decode()),
            "images.1: got 61 bytes, allowed are 60 (MAX_IMAGE_BYTES)",
            id="image-bytes",
        ),
        pytest.param(pictures(f"data:image/png;base64,{PNG}"[:80]), "data: address", id="data-address"),
        pytest.param(pictures("no base64!"), "images.0: got 10 characters that are no Base64", id="no-base64"),
        pytest.param(pictures("größe"), "no Base64", id="beyond-ascii"),
        pytest.param(pictures("QUJDRA"), "no Base64", id="without-padding"),
        pytest.param(pictures("QUJDRA=="), "allowed are png, jpeg, gif and webp", id="no-image"),
        pytest.param(
            chat(SECRET, options={"num_predict": 101}),
            "options.num_predict: got 101, allowed are 100 (MAX_PREDICT)",
            id="num-predict",
        ),
        pytest.param(
            Job(type="embed", model="m", input=[SECRET, "b", "c"]), "input: got 3, allowed are 2", id="embed-inputs"
        ),
    ],
)
def test_too_much_is_refused(job: Job, says: str) -> None:
    """Each limit has its own reason with the number given and the number allowed, and without the job's text."""
    fault = exceeded(job, SMALL)
    assert fault is not None
    assert (fault.code, fault.job_id) == ("invalid", job.id)
    assert says in fault.reason
    assert SECRET not in fault.reason


@pytest.mark.parametrize(
    "job",
    [
        pytest.param(chat("a", "b", options={"num_predict": 100}), id="chat"),
        pytest.param(chat(SECRET * 6), id="text"),
        pytest.param(Job(type="embed", model="m", input=["a", "b"]), id="embed"),
        *(
            pytest.param(pictures(base64.b64encode(data).decode()), id=name)
            for name, data in {
                "png": b"\x89PNG\r\n\x1a\n" + bytes(52),
                "jpeg": b"\xff\xd8\xff\xe0",
                "gif": b"GIF89a",
                "webp": b"RIFF\x04\x00\x00\x00WEBP",
            }.items()
        ),
    ],
)
def test_as_much_as_allowed_passes(job: Job) -> None:
    """A limit is what a job may still have."""
    assert exceeded(job, SMALL) is None


def test_the_defaults_refuse_nothing_that_the_contract_allows() -> None:
    """Without settings a job is bounded by the contract and JOB_MAX_BYTES alone."""
    limits = make_limits(Settings())
    assert exceeded(chat(*["a"] * 1_000, options={"num_predict": 1_000_000}), limits) is None
    assert exceeded(Job(type="embed", model="m", input=["a"] * 2_048), limits) is None
