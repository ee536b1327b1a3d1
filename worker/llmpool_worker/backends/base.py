"""What every model server looks like to a worker: streams of events, and errors of a few kinds."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from llmpool_contract import Job


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Thinking:
    """A piece of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """Calls that the model asks for."""

    calls: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector per input, in the inputs' order."""

    vectors: list[list[float]]


@dataclass(frozen=True, slots=True)
class Final:
    """The server's own word that the answer is whole. None: it didn't say."""

    finish_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    load_s: float | None = None


Event = Text | Thinking | ToolCalls | Embeddings | Final


class ErrorKind(StrEnum):
    """What a failure means for the job."""

    PERMANENT = "permanent"
    """The same request will fail again: bad request, no such model."""
    RETRYABLE = "retryable"
    """The server failed at it: costs an attempt."""
    UNAVAILABLE = "unavailable"
    """Nothing was asked: the server is full, or isn't there. Costs no attempt."""


class BackendError(Exception):
    """A request failed. ``reason`` is in our own words, for dead letters and logs; ``message`` has the server's words
    too, bounded, and is only for the job's own result: servers repeat requests in their errors."""

    def __init__(
        self,
        kind: ErrorKind,
        code: str,
        reason: str,
        *,
        said: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.kind = kind
        self.code = code
        self.reason = reason
        whole = reason if said is None else f"{reason}: {said}"
        self.message = whole[:1_000].encode("utf-8", "replace").decode()  # JSON can carry lone surrogates
        self.retry_after_s = retry_after_s


class Backend(Protocol):
    """A model server. Each stream ends with exactly one :class:`Final`; a stream that ends without one failed.

    All three raise :class:`BackendError`. Closing the iterator closes the request.
    """

    def chat(self, job: Job, model: str) -> AsyncGenerator[Event]:
        """Stream the next turn of a conversation."""
        ...

    def generate(self, job: Job, model: str) -> AsyncGenerator[Event]:
        """Stream what follows a prompt."""
        ...

    def embed(self, job: Job, model: str) -> AsyncGenerator[Event]:
        """One :class:`Embeddings` with a vector per input, then :class:`Final`."""
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...


def ask(backend: Backend, job: Job, model: str) -> AsyncGenerator[Event]:
    """The one of a backend's three streams that a job is for."""
    match job.type:
        case "chat":
            return backend.chat(job, model)
        case "generate":
            return backend.generate(job, model)
    return backend.embed(job, model)


def input_texts(job: Job) -> list[str]:
    """An embed job's inputs as a list."""
    return [job.input] if isinstance(job.input, str) else list(job.input or [])


@dataclass(frozen=True, slots=True)
class Batch:
    """What one embedding call answered."""

    vectors: list[list[float]]
    input_tokens: int | None
    load_s: float | None = None


async def embed_in_batches(
    texts: list[str], size: int, call: Callable[[list[str]], Awaitable[Batch]]
) -> AsyncGenerator[Event]:
    """All texts in calls of ``size``, told as one. A count that one call left out is unknown for the whole."""
    batches = [await call(texts[at : at + size]) for at in range(0, len(texts), size)]
    counts = [batch.input_tokens for batch in batches]
    known = [count for count in counts if count is not None]
    loads = [batch.load_s for batch in batches if batch.load_s is not None]
    yield Embeddings([vector for batch in batches for vector in batch.vectors])
    yield Final("stop", sum(known) if len(known) == len(counts) else None, None, loads[0] if loads else None)
