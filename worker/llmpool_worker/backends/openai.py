"""Any server with OpenAI's API under ``/v1``: llama.cpp, vLLM, Ollama itself."""

from __future__ import annotations

import json
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

_OPTION_NAMES = {"num_predict": "max_tokens"}
"""Our names are Ollama's; where OpenAI's differ. The others (top_k, min_p, ...) are the servers' common extensions."""


class OpenAIBackend:
    """Chat by /v1/chat/completions, generate by /v1/completions, embed by /v1/embeddings."""

    def __init__(self, server: HttpServer, *, batch_size: int) -> None:
        self._server = server
        self._batch_size = batch_size

    async def chat(self, job: Job, model: str) -> AsyncGenerator[Event]:
        """Stream the next turn of a conversation."""
        body = _common(job, model) | {"messages": [_message(m) for m in job.messages or []]}
        if job.tools:
            body["tools"] = job.tools
        async for event in self._events("/v1/chat/completions", body):
            yield event

    async def generate(self, job: Job, model: str) -> AsyncGenerator[Event]:
        """Stream what follows a prompt. There is no ``system`` here, so it goes before the prompt."""
        if job.images:
            raise BackendError(
                ErrorKind.PERMANENT, "refused", "images: not for a generate job on this backend, use chat"
            )
        prompt = f"{job.system}\n\n{job.prompt}" if job.system else job.prompt
        async for event in self._events("/v1/completions", _common(job, model) | {"prompt": prompt}):
            yield event

    async def _events(self, path: str, body: dict[str, Any]) -> AsyncGenerator[Event]:
        final, reason, calls = Final(), None, _ToolCallParts()
        async for chunk in self._stream(path, body):
            if usage := chunk.get("usage"):
                final = Final(None, usage.get("prompt_tokens"), usage.get("completion_tokens"))
            for choice in chunk.get("choices") or []:
                delta = choice.get("delta") or choice
                if thinking := delta.get("reasoning_content"):
                    yield Thinking(thinking)
                if text := delta.get("content") or delta.get("text"):
                    yield Text(text)
                calls.add(delta.get("tool_calls") or [])
                reason = choice.get("finish_reason") or reason
        if reason is None:
            raise incomplete()
        if found := calls.whole():
            yield ToolCalls(found)
        yield Final(reason, final.input_tokens, final.output_tokens)

    async def _stream(self, path: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        async with self._server.post(path, body) as response:
            if response.status != 200:
                raise await self._server.error(response)
            async for raw in self._server.lines(response):
                if not raw.startswith(b"data:"):
                    continue  # SSE's blank lines, comments and event names
                data = raw[5:].strip()
                if data == b"[DONE]":
                    await self._server.finish(response)
                    return
                chunk = json_object(data)
                if "error" in chunk:
                    raise stream_error(chunk)
                yield chunk

    async def embed(self, job: Job, model: str) -> AsyncGenerator[Event]:
        """POST /v1/embeddings, up to ``batch_size`` inputs a call."""
        async for event in embed_in_batches(input_texts(job), self._batch_size, partial(self._embed_batch, model)):
            yield event

    async def _embed_batch(self, model: str, texts: list[str]) -> Batch:
        async with self._server.post("/v1/embeddings", {"model": model, "input": texts}) as response:
            if response.status != 200:
                raise await self._server.error(response)
            answer = json_object(await self._server.body(response))
        rows = sorted(answer.get("data") or [], key=lambda row: int(row["index"]))
        if len(rows) != len(texts):
            raise vectors_missing(len(texts))
        return Batch([row["embedding"] for row in rows], (answer.get("usage") or {}).get("prompt_tokens"))

    async def aclose(self) -> None:
        """Close every connection."""
        await self._server.aclose()


class _ToolCallParts:
    """Puts tool calls together, whose arguments come in pieces by index, and hands them on in Ollama's shape."""

    def __init__(self) -> None:
        self._parts: dict[int, dict[str, str]] = {}

    def add(self, deltas: list[dict[str, Any]]) -> None:
        for delta in deltas:
            part = self._parts.setdefault(int(delta.get("index", 0)), {"id": "", "name": "", "arguments": ""})
            function = delta.get("function") or {}
            part["id"] = part["id"] or delta.get("id") or ""  # some servers repeat it in each piece
            part["name"] += function.get("name") or ""
            part["arguments"] += function.get("arguments") or ""

    def whole(self) -> list[dict[str, Any]]:
        return [
            {"id": part["id"], "function": {"name": part["name"], "arguments": _arguments(part["arguments"])}}
            for _, part in sorted(self._parts.items())
        ]


def _arguments(text: str) -> Any:
    try:
        return json.loads(text or "{}")
    except (ValueError, RecursionError):
        return text  # what the model wrote isn't JSON: the caller must see it as it is


def _tool_call(call: dict[str, Any]) -> dict[str, Any]:
    """A call of an earlier answer, which our results have in Ollama's shape, in OpenAI's."""
    function = dict(call.get("function") or {})
    if not isinstance(function.get("arguments"), str):
        function["arguments"] = json.dumps(function.get("arguments") or {})
    return {**call, "type": "function", "function": function}


def _common(job: Job, model: str) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model}
    if job.options is not None:
        options = job.options.model_dump(exclude_none=True)
        body |= {_OPTION_NAMES.get(name, name): value for name, value in options.items()}
    if job.format == "json":
        body["response_format"] = {"type": "json_object"}
    elif job.format is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": job.format}}
    if isinstance(job.think, str):
        body["reasoning_effort"] = job.think
    elif job.think is not None:
        body["chat_template_kwargs"] = {"enable_thinking": job.think}
    return body


def _message(message: Message) -> dict[str, Any]:
    body = message.model_dump(exclude_none=True, exclude={"images", "thinking", "tool_name", "tool_calls"})
    if message.tool_calls:
        body["tool_calls"] = [_tool_call(call) for call in message.tool_calls]
    if message.images:
        images = [
            {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}} for data in message.images
        ]
        body["content"] = [{"type": "text", "text": message.content}, *images]
    return body
