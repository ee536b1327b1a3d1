"""Between OpenAI's shapes and the queue's: pure functions, no I/O and no clock."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmpool_client import Result
from llmpool_client.batches import body_of, job_fields
from llmpool_contract.keys import DEFAULT_QUEUES

from .errors import GatewayError

ENDPOINTS = {"chat": "/v1/chat/completions", "generate": "/v1/completions", "embed": "/v1/embeddings"}
QUEUES = {kind: queue for queue, kind in DEFAULT_QUEUES.items()}


@dataclass(frozen=True)
class Asked:
    """One request, as the queue sees it and as its answer is wanted."""

    job: dict[str, Any]
    stream: bool = False
    usage: bool = False
    base64: bool = False


def asked_of(kind: str, body: Mapping[str, Any], tenant: str) -> Asked:
    """Read a request's body. What neither the gateway nor a job can do is refused by name.

    Raises:
        GatewayError, BadJob: 400.
    """
    rest = dict(body)
    stream = _flag(rest.pop("stream", None), "stream") if kind != "embed" else False
    usage = _include_usage(rest.pop("stream_options", None), stream) if kind != "embed" else False
    encoding = rest.pop("encoding_format", None) if kind == "embed" else None
    if encoding not in (None, "float", "base64"):
        raise _bad("encoding_format", "allowed are float and base64")
    fields = job_fields(ENDPOINTS[kind], rest)  # type: ignore[arg-type] # one of its three
    user = fields.get("tenant")
    if user is not None:  # the key says whose job it is; OpenAI's `user` is a label
        fields["metadata"] = {**(fields.get("metadata") or {}), "user": user}
    return Asked({**fields, "tenant": tenant, "stream": stream}, stream, usage, encoding == "base64")


def job_id(kind: str, tenant: str, body: bytes, key: str | None, random_hex: str) -> str:
    """``chat-<tenant's tag>-<rest>``: says the queue and whose job it is, without a place to look that up.

    With an ``Idempotency-Key`` the rest is made of key and body: a repeat finds the first one's job, and another body
    under the same key never gets its answer.
    """
    rest = random_hex if key is None else hashlib.sha256(key.encode() + b"\0" + body).hexdigest()[:32]
    return f"{kind}-{_tag(tenant)}-{rest}"


def kind_of_job(given: str, tenant: str) -> str | None:
    """The kind of a job by its id; None: no id of this tenant's."""
    kind, _, rest = given.partition("-")
    return kind if kind in ENDPOINTS and rest.startswith(f"{_tag(tenant)}-") and len(given) <= 100 else None


def answer_of(kind: str, result: Result, created_s: int, *, in_base64: bool) -> dict[str, Any]:
    """The whole answer of a job that succeeded."""
    body = body_of(ENDPOINTS[kind], result, created_s)
    if kind == "embed":
        # The client's own type has no null here. Absent is not zero, so the field stays away.
        body = {name: value for name, value in body.items() if name != "usage" or value is not None}
        if in_base64:
            for row in body["data"]:
                vector = row["embedding"]
                row["embedding"] = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    return body


class Chunks:
    """The chunks of one streamed answer."""

    def __init__(self, kind: str, job: str, model: str, created_s: int) -> None:
        self._chat = kind == "chat"
        name = "chat.completion.chunk" if self._chat else "text_completion"
        self._head = {"id": job, "object": name, "created": created_s, "model": model}

    def first(self) -> list[dict[str, Any]]:
        """What comes before any text."""
        return [self._chunk({"role": "assistant", "content": ""})] if self._chat else []

    def text(self, text: str) -> dict[str, Any]:
        """A piece of the answer."""
        return self._chunk({"content": text})

    def thinking(self, text: str) -> list[dict[str, Any]]:
        """A piece of the reasoning, where the endpoint has a field for it."""
        return [self._chunk({"reasoning_content": text})] if self._chat else []

    def last(self, result: Result, *, usage: bool) -> list[dict[str, Any]]:
        """Calls of tools, why it ended, and what it took."""
        whole = body_of(ENDPOINTS["chat" if self._chat else "generate"], result, 0)
        choice = whole["choices"][0]
        calls = choice.get("message", {}).get("tool_calls") or []
        chunks = [self._chunk({"tool_calls": [{"index": n, **call}]}) for n, call in enumerate(calls)]
        chunks.append(self._chunk({}, choice["finish_reason"] or "stop"))
        return [*chunks, {**self._head, "choices": [], "usage": whole["usage"]}] if usage else chunks

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        part = {"delta": delta} if self._chat else {"text": delta.get("content", "")}
        return {**self._head, "choices": [{"index": 0, **part, "logprobs": None, "finish_reason": reason}]}


def sse(data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def _tag(tenant: str) -> str:
    return hashlib.sha256(tenant.encode()).hexdigest()[:12]


def _flag(value: Any, field: str) -> bool:
    if value is not None and not isinstance(value, bool):
        raise _bad(field, "wanted true or false")
    return bool(value)


def _include_usage(options: Any, stream: bool) -> bool:
    if options is None:
        return False
    if not stream:
        raise _bad("stream_options", "only for a stream")
    if not isinstance(options, dict) or options.keys() - {"include_usage"}:
        raise _bad("stream_options", "wanted an object, allowed in it is include_usage")
    return _flag(options.get("include_usage"), "stream_options.include_usage")


def _bad(field: str, allowed: str) -> GatewayError:
    return GatewayError(400, "invalid_value", f"body.{field}: {allowed}", param=field)
