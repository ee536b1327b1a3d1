"""No model at all: answers with the question. For trials, and for measuring everything but a model."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator

from llmpool_contract import Job
from llmpool_contract.models import folded

from .base import (
    Batch,
    Capabilities,
    Embeddings,
    Event,
    Final,
    LocalModel,
    PullProgress,
    ResidentModel,
    Text,
    input_texts,
)

VECTOR_SIZE = 8


class EchoBackend:
    """Says back the last message or the prompt, a word at a time; embeds by hash.

    It has every model that it is asked for, and "loads" it without a cost, so that trials go every way that a real
    server's jobs go.
    """

    def __init__(self, token_delay_s: float = 0.0) -> None:
        self._delay_s = token_delay_s
        self._local: set[str] = set()
        self._resident: set[str] = set()

    @property
    def capabilities(self) -> Capabilities:
        """It lists and pulls. What has no memory has no models to change in it."""
        return Capabilities(lists_models=True, pulls_models=True)

    async def models(self) -> list[LocalModel]:
        """Those that were pulled or asked for."""
        return [LocalModel(name, size_bytes=0) for name in sorted(self._local)]

    async def resident(self) -> list[ResidentModel]:
        """Those that were loaded or asked for, and not unloaded since."""
        return [ResidentModel(name, size_bytes=0, gpu_bytes=0) for name in sorted(self._resident)]

    async def load(self, model: str) -> None:
        """Takes no time and no memory."""
        self._use(model)

    async def unload(self, model: str) -> None:
        """The same."""
        self._resident.discard(folded(model))

    async def pull(self, model: str) -> AsyncGenerator[PullProgress]:
        """There is nothing to download."""
        self._local.add(folded(model))
        yield PullProgress("success", 0, 0)

    async def probe(self, model: str) -> None:
        """As well as ever."""
        self._use(model)

    def _use(self, model: str) -> None:
        name = folded(model)
        self._local.add(name)
        self._resident.add(name)

    async def chat(self, job: Job, model: str) -> AsyncGenerator[Event]:
        """Stream the last message's words."""
        text = job.messages[-1].content if job.messages else ""
        async for event in self._say(text, model):
            yield event

    async def generate(self, job: Job, model: str) -> AsyncGenerator[Event]:
        """Stream the prompt's words."""
        async for event in self._say(job.prompt or "", model):
            yield event

    async def _say(self, text: str, model: str) -> AsyncGenerator[Event]:
        self._use(model)
        words = text.split(" ")
        for n, word in enumerate(words):
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            yield Text(word if n == 0 else f" {word}")
        yield Final("stop", len(words), len(words))

    async def embed(self, job: Job, model: str) -> AsyncGenerator[Event]:
        """A vector in [0, 1) per input, the same for the same text and model."""
        batch = await self.embed_texts(input_texts(job), model)
        yield Embeddings(batch.vectors)
        yield Final("stop", batch.input_tokens)

    async def embed_texts(self, texts: list[str], model: str) -> Batch:
        """The same for texts."""
        self._use(model)
        return Batch([_vector(model, text) for text in texts], sum(len(text.split(" ")) for text in texts))

    async def aclose(self) -> None:
        """Nothing to close."""


def _vector(model: str, text: str) -> list[float]:
    digest = hashlib.blake2b(f"{model}\0{text}".encode(), digest_size=VECTOR_SIZE).digest()
    return [byte / 256 for byte in digest]
