"""From the body of an OpenAI request to the fields of a job. What has no place in a job is refused, never dropped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from llmpool_contract import BadJob, JobType
from llmpool_contract.keys import DEFAULT_QUEUES

from .messages import job_messages
from .values import kind_of, listed, refused, same, stray_field, text_at

Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]

TYPE_OF: dict[str, JobType] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "generate",
    "/v1/embeddings": "embed",
}
QUEUE_OF = {url: queue for url, kind in TYPE_OF.items() for queue, of in DEFAULT_QUEUES.items() if of == kind}

_SAME_NAME = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "repeat_penalty",
    "repeat_last_n",
)
"""Options that are a job's under the same name: OpenAI's, and what its servers commonly add."""
_LENGTHS = ("max_tokens", "max_completion_tokens")
_SAMPLING = frozenset({*_SAME_NAME, *_LENGTHS, "stop"})
_COMMON = frozenset({"model", "user", "metadata"})
_FIELDS: dict[str, frozenset[str]] = {
    "chat": _COMMON | _SAMPLING | {"messages", "tools", "response_format", "reasoning_effort"},
    "generate": _COMMON | _SAMPLING | {"prompt"},
    "embed": _COMMON | {"input"},
}
_ONLY: dict[str, dict[str, tuple[Any, ...]]] = {
    "chat": {
        "n": (1,),
        "stream": (False,),
        "store": (False,),
        "logprobs": (False,),
        "tool_choice": ("auto",),
        "parallel_tool_calls": (True,),
        "modalities": (["text"],),
    },
    "generate": {"n": (1,), "best_of": (1,), "stream": (False,), "echo": (False,)},
    "embed": {"encoding_format": ("float",)},
}
"""Fields that change nothing at these values, and that no job can follow at others."""
_THINK: dict[str, bool | str] = {"none": False, "low": "low", "medium": "medium", "high": "high"}


def job_fields(url: Endpoint, body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the job that one request's body asks for. Null is the same as absent, as it is for OpenAI.

    Raises:
        BadJob: ``invalid``, naming the body's field and what kind of value it had, never the value of a text.
    """
    kind = TYPE_OF[url]
    given = {name: value for name, value in body.items() if value is not None}
    _check_names(kind, given)
    fields: dict[str, Any] = {"type": kind, "model": text_at(given, "model"), "metadata": _metadata(given)}
    if "user" in given:
        fields["tenant"] = text_at(given, "user")
    if kind == "embed":
        return fields | {"input": _input(given)}
    fields["options"] = _options(given) or None
    if kind == "generate":
        return fields | {"prompt": _prompt(given)}
    return fields | _chat(given)


def _check_names(kind: str, given: Mapping[str, Any]) -> None:
    only = _ONLY[kind]
    for name, value in given.items():
        if name in only:
            if not any(same(value, allowed) for allowed in only[name]):
                raise refused(name, value, f"allowed is {listed(only[name])}")
        elif name not in _FIELDS[kind]:
            raise stray_field("", [name])


def _metadata(given: Mapping[str, Any]) -> dict[str, Any] | None:
    metadata = given.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise refused("metadata", metadata, "wanted an object")
    return metadata


def _chat(given: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {"messages": job_messages(given.get("messages")), "tools": given.get("tools")}
    if "response_format" in given:
        fields["format"] = _format(given["response_format"])
    if "reasoning_effort" in given:
        effort = text_at(given, "reasoning_effort")
        if effort not in _THINK:
            raise refused("reasoning_effort", effort, f"allowed are {', '.join(_THINK)}")
        fields["think"] = _THINK[effort]
    return fields


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    options = {name: given[name] for name in _SAME_NAME if name in given}
    lengths = [given[name] for name in _LENGTHS if name in given]
    if lengths:
        if any(not same(length, lengths[0]) for length in lengths):
            raise BadJob("invalid", f"body: {' and '.join(_LENGTHS)} say different things")
        options["num_predict"] = lengths[0]
    if "stop" in given:
        options["stop"] = [given["stop"]] if isinstance(given["stop"], str) else given["stop"]
    return options


def _prompt(given: Mapping[str, Any]) -> str:
    prompt = given.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise refused("prompt", prompt, "wanted one text: a request has one answer")
    return prompt


def _input(given: Mapping[str, Any]) -> str | list[str]:
    texts = given.get("input")
    if isinstance(texts, str) or (isinstance(texts, list) and all(isinstance(text, str) for text in texts)):
        return texts
    raise refused("input", texts, "wanted a text or an array of texts; tokens belong to one model's own vocabulary")


def _format(wanted: Any) -> str | dict[str, Any] | None:
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    rest = {name for name, value in wanted.items() if value is not None} - {"type"} if kind else set()
    if kind == "text" and not rest:
        return None
    if kind == "json_object" and not rest:
        return "json"
    if kind == "json_schema" and rest == {"json_schema"}:
        return _schema(wanted["json_schema"])
    raise BadJob("invalid", "body.response_format: wanted a type: text, json_object, or json_schema with json_schema")


def _schema(given: Any) -> dict[str, Any]:
    """The schema itself: its name means nothing to a model server, and strict is what they all are."""
    schema = given.get("schema") if isinstance(given, dict) else None
    if not isinstance(schema, dict):
        raise BadJob("invalid", f"body.response_format.json_schema.schema: wanted an object, got {kind_of(schema)}")
    if stray := given.keys() - {"name", "schema", "strict", "description"}:
        raise stray_field("response_format.json_schema.", stray)
    about = given.get("description")
    return schema if about is None else {"description": about, **schema}
