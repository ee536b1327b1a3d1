"""No model at all: answers with the question. For trials, and for measuring everything but a model."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator

from llmpool_contract import Job

from .base import Embeddings, Event, Final, Text, input_texts

VECTOR_SIZE = 8


class EchoBackend:
    """Says back the last message or the prompt, a word at a time; embeds by hash."""

    def __init__(self, token_delay_s: float = 0.0) -> None:
        self._delay_s = token_delay_s

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
        del model
        words = text.split(" ")
        for n, word in enumerate(words):
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            yield Text(word if n == 0 else f" {word}")
        yield Final("stop", len(words), len(words))

    async def embed(self, job: Job, model: str) -> AsyncGenerator[Event]:
        """A vector in [0, 1) per input, the same for the same text and model."""
        texts = input_texts(job)
        yield Embeddings([_vector(model, text) for text in texts])
        yield Final("stop", sum(len(text.split(" ")) for text in texts))

    async def aclose(self) -> None:
        """Nothing to close."""


def _vector(model: str, text: str) -> list[float]:
    digest = hashlib.blake2b(f"{model}\0{text}".encode(), digest_size=VECTOR_SIZE).digest()
    return [byte / 256 for byte in digest]
