"""Ollama's own API."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any

from llmpool_contract import Job, Message

from .base import (
    Batch,
    Capabilities,
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
from .classify import incomplete
from .http import HttpServer
from .ollama_api import OllamaApi, RunnerOptions, seconds
from .ollama_models import OllamaModels


class OllamaBackend:
    """Streams always, so that the server notices when we hang up. ``keep_alive`` is never sent with a job: the last
    writer would set it for everybody, and it can wake a model that is being evicted.

    ``runner_options``: per model, options of every request that it gets. ``num_predict``: tokens of an answer whose job
    doesn't say; without any, Ollama goes on for ten times the context. None: left to Ollama.
    """

    def __init__(
        self,
        server: HttpServer,
        *,
        batch_size: int,
        runner_options: RunnerOptions | None = None,
        num_predict: int | None = None,
        keep_alive_s: int | None = None,
    ) -> None:
        self._api = OllamaApi(server, runner_options or {})
        self._models = OllamaModels(self._api, keep_alive_s)
        self._batch_size = batch_size
        self._num_predict = num_predict

    @property
    def capabilities(self) -> Capabilities:
        """All of them."""
        return Capabilities(lists_models=True, manages_models=True, pulls_models=True)

    async def chat(self, job: Job, model: str) -> AsyncGenerator[Event]:
        """POST /api/chat."""
        body = self._body(job, model, messages=[_message(m) for m in job.messages or []])
        if job.tools:
            body["tools"] = job.tools
        final = False
        async with aclosing(self._api.stream("/api/chat", body)) as lines:
            async for line in lines:
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

    def generate(self, job: Job, model: str) -> AsyncGenerator[Event]:
        """POST /api/generate."""
        given = {name: value for name in ("system", "images") if (value := getattr(job, name)) is not None}
        return self._generate(self._body(job, model, prompt=job.prompt, **given))

    async def _generate(self, body: dict[str, Any]) -> AsyncGenerator[Event]:
        final = False
        async with aclosing(self._api.stream("/api/generate", body)) as lines:
            async for line in lines:
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
        call = partial(self.embed_texts, model=model)
        async for event in embed_in_batches(input_texts(job), self._batch_size, call):
            yield event

    async def embed_texts(self, texts: list[str], model: str) -> Batch:
        """POST /api/embed, once."""
        return await self._api.embed(model, texts) if texts else Batch([], 0)

    async def models(self) -> list[LocalModel]:
        """GET /api/tags, without those that run on somebody else's server."""
        return await self._models.local()

    async def resident(self) -> list[ResidentModel]:
        """GET /api/ps."""
        return await self._models.resident()

    async def load(self, model: str) -> None:
        """Load it for good, with its runner options, and see that it is there."""
        await self._models.load(model)

    async def unload(self, model: str) -> None:
        """It goes when its last request has ended."""
        await self._models.unload(model)

    def pull(self, model: str) -> AsyncGenerator[PullProgress]:
        """POST /api/pull."""
        return self._models.pull(model)

    async def probe(self, model: str) -> None:
        """One token, or one vector."""
        if await self._models.embeds_only(model):
            await self._api.embed(model, ["probe"])
            return
        body = self._api.request(model, stream=True, prompt="probe")
        body["options"] = {**body.get("options", {}), "num_predict": 1}
        async for _ in self._generate(body):
            pass

    async def aclose(self) -> None:
        """Close every connection."""
        await self._api.aclose()

    def _body(self, job: Job, model: str, **fields: Any) -> dict[str, Any]:
        options = {} if self._num_predict is None else {"num_predict": self._num_predict}
        if job.options is not None:
            options |= job.options.model_dump(exclude_none=True)
        body = self._api.request(model, options, stream=True, **fields)
        body |= {name: value for name in ("format", "think") if (value := getattr(job, name)) is not None}
        return body


def _message(message: Message) -> dict[str, Any]:
    return message.model_dump(exclude_none=True)


def _final(line: dict[str, Any]) -> Final:
    """Ollama leaves out what is zero, so a count that is absent from a final line is zero, and a duration too where
    there is a total."""
    total_s = seconds(line.get("total_duration"))
    spans = [seconds(line.get(f"{name}_duration")) for name in ("load", "prompt_eval", "eval")]
    load_s, prompt_s, eval_s = spans if total_s is None else [span or 0.0 for span in spans]
    return Final(
        finish_reason=line.get("done_reason"),
        input_tokens=int(line.get("prompt_eval_count", 0)),
        output_tokens=int(line.get("eval_count", 0)),
        load_s=load_s,
        total_s=total_s,
        prompt_s=prompt_s,
        eval_s=eval_s,
    )
