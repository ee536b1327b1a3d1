"""Ollama's own API."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

from llmpool_contract import Job, Message

from .base import (
    BackendError,
    Batch,
    ErrorKind,
    Event,
    Final,
    Text,
    Thinking,
    ToolCalls,
    embed_in_batches,
    input_texts,
)
from .http import HttpServer, incomplete, json_object, stream_error, vectors_missing

_NS = 1e-9
_RUNNER_DIED = ("unexpectedly stopped", "has terminated", "EOF", "connection re", "do embedding request")


class OllamaBackend:
    """Streams always, so that the server notices when we hang up. ``keep_alive`` is never sent with a job: the last
    writer would set it for everybody, and it can wake a model that is being evicted."""

    def __init__(self, server: HttpServer, *, batch_size: int) -> None:
        self._server = server
        self._batch_size = batch_size

    async def chat(self, job: Job, model: str) -> AsyncGenerator[Event]:
        """POST /api/chat."""
        body = _common(job, model) | {"messages": [_message(m) for m in job.messages or []]}
        if job.tools:
            body["tools"] = job.tools
        final = False
        async for line in self._stream("/api/chat", body):
            message = line.get("message") or {}
            if thinking := message.get("thinking"):
                yield Thinking(thinking)
            if content := message.get("content"):
                yield Text(content)
            if calls := message.get("tool_calls"):
                yield ToolCalls(calls)
            if line.get("done"):
                yield _final(line)
                final = True
        if not final:
            raise incomplete()

    async def generate(self, job: Job, model: str) -> AsyncGenerator[Event]:
        """POST /api/generate."""
        body = _common(job, model) | {"prompt": job.prompt}
        body |= {name: value for name in ("system", "images") if (value := getattr(job, name)) is not None}
        final = False
        async for line in self._stream("/api/generate", body):
            if thinking := line.get("thinking"):
                yield Thinking(thinking)
            if content := line.get("response"):
                yield Text(content)
            if line.get("done"):
                yield _final(line)
                final = True
        if not final:
            raise incomplete()

    async def embed(self, job: Job, model: str) -> AsyncGenerator[Event]:
        """POST /api/embed, up to ``batch_size`` inputs a call."""
        async for event in embed_in_batches(input_texts(job), self._batch_size, partial(self._embed_batch, model)):
            yield event

    async def _embed_batch(self, model: str, texts: list[str]) -> Batch:
        async with self._server.post("/api/embed", {"model": model, "input": texts}) as response:
            if response.status != 200:
                raise embed_error(response.status, await self._server.error(response))
            answer = json_object(await self._server.body(response))
        found = answer.get("embeddings")
        if not isinstance(found, list) or len(found) != len(texts):
            raise vectors_missing(len(texts))
        return Batch(found, answer.get("prompt_eval_count"), _seconds(answer.get("load_duration")))

    async def _stream(self, path: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        async with self._server.post(path, body) as response:
            if response.status != 200:
                raise await self._server.error(response)
            async for raw in self._server.lines(response):
                if not raw.strip():
                    continue
                line = json_object(raw)
                if "error" in line:
                    raise stream_error(line)
                yield line
                if line.get("done"):
                    await self._server.finish(response)
                    return

    async def aclose(self) -> None:
        """Close every connection."""
        await self._server.aclose()


def _common(job: Job, model: str) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "stream": True}
    if job.options is not None:
        body["options"] = job.options.model_dump(exclude_none=True)
    for name in ("format", "think"):
        if (value := getattr(job, name)) is not None:
            body[name] = value
    return body


def _message(message: Message) -> dict[str, Any]:
    return message.model_dump(exclude_none=True)


def _final(line: dict[str, Any]) -> Final:
    """Ollama leaves out what is zero, so a count that is absent from a final line is zero."""
    return Final(
        finish_reason=line.get("done_reason"),
        input_tokens=int(line.get("prompt_eval_count", 0)),
        output_tokens=int(line.get("eval_count", 0)),
        load_s=_seconds(line.get("load_duration")),
    )


def _seconds(nanoseconds: Any) -> float | None:
    return round(nanoseconds * _NS, 6) if isinstance(nanoseconds, int | float) else None


def embed_error(status: int, error: BackendError) -> BackendError:
    """Ollama answers 400 also when the runner died under an embedding (server/routes.go): not the job's fault."""
    if status == 400 and any(sign in error.message for sign in _RUNNER_DIED):
        return BackendError(ErrorKind.RETRYABLE, "runner_died", "the model's runner died under an embedding")
    return error
