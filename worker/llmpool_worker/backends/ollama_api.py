"""Ollama's way of asking and answering, which its jobs and its models share."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from llmpool_contract.models import folded

from .base import Batch
from .classify import EMBED_CRASH, embed_error, json_object, stream_error, vectors_missing
from .http import HttpServer

RunnerOptions = Mapping[str, Mapping[str, Any]]
"""Model -> options that each of its requests has, whatever a job says: where ``num_ctx``, ``num_gpu`` and the like
differ from those that it was loaded with, Ollama loads it anew (its server/sched.go, needsReload)."""

_NS = 1e-9
_RUNNER_DIED = (EMBED_CRASH, "unexpectedly stopped", "has terminated", "EOF", "connection re")


class OllamaApi:
    """Requests to one Ollama. Raises BackendError for every answer that isn't what was asked for."""

    def __init__(self, server: HttpServer, runner_options: RunnerOptions) -> None:
        self._server = server
        self._fixed = {folded(name): dict(options) for name, options in runner_options.items()}

    def request(self, model: str, options: Mapping[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        """A request's body: the model's fixed options win over ``options``."""
        merged = {**(options or {}), **self._fixed.get(folded(model), {})}
        return {"model": model, **fields, **({"options": merged} if merged else {})}

    async def get(self, path: str) -> dict[str, Any]:
        """A GET's answer."""
        async with self._server.get(path) as response:
            return await self._server.whole(response)

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request that isn't streamed."""
        async with self._server.post(path, body) as response:
            return await self._server.whole(response)

    async def stream(self, path: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """An answer's lines, up to the one that says ``done``, or to its end."""
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

    async def embed(self, model: str, texts: list[str], **fields: Any) -> Batch:
        """POST /api/embed. No texts at all are a command to load the model."""
        async with self._server.post("/api/embed", self.request(model, input=texts, **fields)) as response:
            if response.status != 200:
                raise embed_error(response.status, await self._server.error(response), _RUNNER_DIED)
            answer = json_object(await self._server.body(response))
        found = answer.get("embeddings")
        if not isinstance(found, list) or len(found) != len(texts):
            raise vectors_missing(len(texts))
        return Batch(found, answer.get("prompt_eval_count"), seconds(answer.get("load_duration")))

    async def aclose(self) -> None:
        """Close every connection."""
        await self._server.aclose()


def seconds(nanoseconds: Any) -> float | None:
    """Ollama's unit in ours. None: it isn't there."""
    return round(nanoseconds * _NS, 6) if isinstance(nanoseconds, int | float) else None
