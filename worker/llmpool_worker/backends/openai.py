"""Any server with OpenAI's API under ``/v1``: llama.cpp, vLLM, Ollama itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any

from llmpool_contract import Job

from .base import (
    BackendError,
    Batch,
    Capabilities,
    ErrorKind,
    Event,
    Final,
    LocalModel,
    PullProgress,
    ResidentModel,
    Text,
    Thinking,
    ToolCalls,
    embed_in_batches,
    input_texts,
)
from .classify import embed_error, incomplete, json_object, stream_error, vectors_missing
from .http import HttpServer
from .openai_shapes import ToolCallParts, common_body, message_body


class OpenAIBackend:
    """Chat by /v1/chat/completions, generate by /v1/completions, embed by /v1/embeddings."""

    def __init__(self, server: HttpServer, *, batch_size: int) -> None:
        self._server = server
        self._batch_size = batch_size

    async def chat(self, job: Job, model: str) -> AsyncGenerator[Event]:
        """Stream the next turn of a conversation."""
        body = common_body(job, model) | {"messages": [message_body(m) for m in job.messages or []]}
        if job.tools:
            body["tools"] = job.tools
        async with aclosing(self._events("/v1/chat/completions", body)) as events:
            async for event in events:
                yield event

    async def generate(self, job: Job, model: str) -> AsyncGenerator[Event]:
        """Stream what follows a prompt. There is no ``system`` here, so it goes before the prompt."""
        if job.images:
            raise BackendError(
                ErrorKind.PERMANENT, "refused", "images: not for a generate job on this backend, use chat"
            )
        prompt = f"{job.system}\n\n{job.prompt}" if job.system else job.prompt
        async with aclosing(self._events("/v1/completions", common_body(job, model) | {"prompt": prompt})) as events:
            async for event in events:
                yield event

    async def _events(self, path: str, body: dict[str, Any]) -> AsyncGenerator[Event]:
        final, reason, calls = Final(), None, ToolCallParts()
        async with aclosing(self._stream(path, body)) as chunks:
            async for chunk in chunks:
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
        call = partial(self.embed_texts, model=model)
        async for event in embed_in_batches(input_texts(job), self._batch_size, call):
            yield event

    async def embed_texts(self, texts: list[str], model: str) -> Batch:
        """POST /v1/embeddings, once."""
        if not texts:
            return Batch([], 0)
        async with self._server.post("/v1/embeddings", {"model": model, "input": texts}) as response:
            if response.status != 200:
                raise embed_error(response.status, await self._server.error(response))
            answer = await self._server.whole(response)
        rows = sorted(answer.get("data") or [], key=lambda row: int(row["index"]))
        if len(rows) != len(texts):
            raise vectors_missing(len(texts))
        return Batch([row["embedding"] for row in rows], (answer.get("usage") or {}).get("prompt_tokens"))

    @property
    def capabilities(self) -> Capabilities:
        """What runs there is its owner's business: models can only be listed."""
        return Capabilities(lists_models=True)

    async def models(self) -> list[LocalModel]:
        """GET /v1/models."""
        async with self._server.get("/v1/models") as response:
            answer = await self._server.whole(response)
        return [LocalModel(str(entry.get("id"))) for entry in answer.get("data") or []]

    async def resident(self) -> list[ResidentModel]:
        """The API doesn't tell."""
        raise NotImplementedError

    async def load(self, model: str) -> None:
        """The API has no way to."""
        raise NotImplementedError

    async def unload(self, model: str) -> None:
        """The API has no way to."""
        raise NotImplementedError

    def pull(self, model: str) -> AsyncGenerator[PullProgress]:
        """The API has no way to."""
        raise NotImplementedError

    async def probe(self, model: str) -> None:
        """One token, or of a model that the server refuses to let chat, one vector: the API doesn't tell which are
        which."""
        body = {"model": model, "messages": [{"role": "user", "content": "probe"}], "max_tokens": 1}
        try:
            async for _ in self._events("/v1/chat/completions", body):
                pass
        except BackendError as error:
            if error.kind is not ErrorKind.PERMANENT:
                raise
            await self._probe_vector(model, error)

    async def _probe_vector(self, model: str, refused: BackendError) -> None:
        """Where the model can't embed either, what it said to the chat is what counts."""
        try:
            await self.embed_texts(["probe"], model)
        except BackendError as error:
            raise (refused if error.kind is ErrorKind.PERMANENT else error) from None

    async def aclose(self) -> None:
        """Close every connection."""
        await self._server.aclose()
