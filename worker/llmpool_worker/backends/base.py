"""What every model server looks like to a worker: streams of events, and errors of a few kinds."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from llmpool_contract import Job

from .errors import BackendError as BackendError
from .errors import ErrorKind as ErrorKind


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
    """Until the model was ready for the request: its load, and what the request waited for it."""
    total_s: float | None = None
    prompt_s: float | None = None
    """Reading the prompt."""
    eval_s: float | None = None
    """Writing the answer."""
    shared: bool | None = None
    """Whether the tokens are those of a call that other jobs shared."""
    own_tokens: int | None = None
    """Of shared ones, the job's part as a guess: for its tenant's limit, never for a result."""
    cached: bool | None = None
    """Whether all of it was answered before, and no model was asked now."""

    @property
    def tokens(self) -> int:
        """What is charged for it; what the server didn't count is for nothing."""
        if self.cached:
            return 0
        read = self.own_tokens if self.shared else self.input_tokens
        return (read or 0) + (self.output_tokens or 0)

    @property
    def slot_wait_s(self) -> float | None:
        """Seconds that the request waited for one of the model's parallel slots: what the others don't account for."""
        if self.total_s is None or self.load_s is None or self.prompt_s is None or self.eval_s is None:
            return None
        return max(0.0, round(self.total_s - self.load_s - self.prompt_s - self.eval_s, 6))


Event = Text | Thinking | ToolCalls | Embeddings | Final


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a server can be asked beside jobs. A call that it can't answer raises NotImplementedError."""

    lists_models: bool = False
    """:meth:`Backend.models`"""
    manages_models: bool = False
    """:meth:`Backend.resident`, :meth:`Backend.load`, :meth:`Backend.unload`"""
    pulls_models: bool = False
    """:meth:`Backend.pull`"""


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model that the server has on disk. None: it doesn't tell."""

    name: str
    size_bytes: int | None = None
    digest: str | None = None
    embeds_only: bool | None = None


@dataclass(frozen=True, slots=True)
class ResidentModel:
    """A model that the server holds in memory. None: it doesn't tell."""

    name: str
    size_bytes: int | None = None
    """All of its memory, the part on GPUs included."""
    gpu_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far a download is."""

    status: str
    completed_bytes: int | None = None
    total_bytes: int | None = None


class Backend(Protocol):
    """A model server. Each stream ends with exactly one :class:`Final`; a stream that ends without one failed.

    Everything raises :class:`BackendError`. Closing an iterator closes its request. Only connecting has a timeout of
    its own: callers bound the rest.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What it can be asked beside jobs."""
        ...

    async def models(self) -> list[LocalModel]:
        """What the server could run now."""
        ...

    async def resident(self) -> list[ResidentModel]:
        """What the server holds in memory."""
        ...

    async def load(self, model: str) -> None:
        """Load a model to stay until :meth:`unload`; returns when it is resident. Cancelling aborts the load."""
        ...

    async def unload(self, model: str) -> None:
        """Ask for a model's memory back. Returns at once: watch :meth:`resident`."""
        ...

    def pull(self, model: str) -> AsyncGenerator[PullProgress]:
        """Download a model; ends when it is whole."""
        ...

    async def probe(self, model: str) -> None:
        """The smallest real request to a model, on the path that jobs take: a status page proves nothing."""
        ...

    def chat(self, job: Job, model: str) -> AsyncGenerator[Event]:
        """Stream the next turn of a conversation."""
        ...

    def generate(self, job: Job, model: str) -> AsyncGenerator[Event]:
        """Stream what follows a prompt."""
        ...

    def embed(self, job: Job, model: str) -> AsyncGenerator[Event]:
        """One :class:`Embeddings` with a vector per input, then :class:`Final`."""
        ...

    async def embed_texts(self, texts: list[str], model: str) -> Batch:
        """A vector per text, in their order, by one call for all of them. It fails as a whole: one text that the
        server refuses is a :class:`BackendError` for the others too."""
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
    """What one embedding call answered. None: the server didn't say."""

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
