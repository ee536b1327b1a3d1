"""One answer in two languages: Ollama's lines of JSON, and the events of OpenAI's API."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tests.support.ollama_answers import text_part

CHAT, GENERATE, EMBED = "/api/chat", "/api/generate", "/api/embed"
V1 = {"/v1/chat/completions": CHAT, "/v1/completions": GENERATE, "/v1/embeddings": EMBED}


class Wire(Protocol):
    """How the parts of an answer are written."""

    content_type: str

    def part(self, text: str) -> bytes: ...

    def end(self, counters: Mapping[str, Any]) -> bytes: ...

    def error(self, message: str) -> bytes: ...

    def whole(self, text: str, counters: Mapping[str, Any]) -> dict[str, Any]: ...

    def vectors(self, vectors: Sequence[Sequence[float]], counters: Mapping[str, Any]) -> dict[str, Any]: ...


class OllamaWire:
    """A line for each part. `counters`: what `final_part` gives."""

    content_type = "application/x-ndjson"

    def __init__(self, path: str, model: str) -> None:
        self._path, self._model = path, model

    def line(self, value: Mapping[str, Any]) -> bytes:
        return json.dumps(value).encode() + b"\n"

    def part(self, text: str) -> bytes:
        return self.line(text_part(self._path, self._model, text))

    def end(self, counters: Mapping[str, Any]) -> bytes:
        return self.line(self.whole("", counters))

    def error(self, message: str) -> bytes:
        return self.line({"error": message})

    def whole(self, text: str, counters: Mapping[str, Any]) -> dict[str, Any]:
        return {**text_part(self._path, self._model, text), **counters}

    def vectors(self, vectors: Sequence[Sequence[float]], counters: Mapping[str, Any]) -> dict[str, Any]:
        return {"model": self._model, "embeddings": vectors, **counters}


class OpenAIWire:
    """A server-sent event for each part."""

    content_type = "text/event-stream"

    def __init__(self, path: str, model: str) -> None:
        self._chat, self._model = path == CHAT, model

    def part(self, text: str) -> bytes:
        return self._event({"choices": [self._choice("delta", text, None)]})

    def end(self, counters: Mapping[str, Any]) -> bytes:
        last = {"choices": [self._choice("delta", "", counters["done_reason"])]}
        usage = {"choices": [], "usage": _usage(counters)}
        return self._event(last) + self._event(usage) + b"data: [DONE]\n\n"

    def error(self, message: str) -> bytes:
        return self._event({"error": {"message": message, "type": "server_error"}})

    def whole(self, text: str, counters: Mapping[str, Any]) -> dict[str, Any]:
        choice = self._choice("message", text, counters.get("done_reason"))
        return {"model": self._model, "choices": [choice], "usage": _usage(counters)}

    def vectors(self, vectors: Sequence[Sequence[float]], counters: Mapping[str, Any]) -> dict[str, Any]:
        rows = [{"object": "embedding", "index": n, "embedding": vector} for n, vector in enumerate(vectors)]
        return {"object": "list", "model": self._model, "data": rows, "usage": _usage(counters)}

    def _choice(self, field: str, text: str, reason: str | None) -> dict[str, Any]:
        said = {field: {"role": "assistant", "content": text}} if self._chat else {"text": text}
        return {"index": 0, **said, "finish_reason": reason}

    def _event(self, chunk: Mapping[str, Any]) -> bytes:
        return b"data: " + json.dumps({"model": self._model, **chunk}).encode() + b"\n\n"


def _usage(counters: Mapping[str, Any]) -> dict[str, int]:
    return {
        "prompt_tokens": counters.get("prompt_eval_count", 0),
        "completion_tokens": counters.get("eval_count", 0),
    }


def from_v1(body: Mapping[str, Any]) -> dict[str, Any]:
    """A request of OpenAI's API as Ollama's own would have it."""
    renamed = {name: body[name] for name in ("model", "messages", "prompt", "input") if name in body}
    options = {"num_predict": body["max_tokens"]} if "max_tokens" in body else {}
    return {**renamed, "options": options, "stream": body.get("stream", False)}
