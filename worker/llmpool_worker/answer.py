"""What a model has said so far, and the results that can be made of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmpool_contract import Job, JobError, Result, Status, Timings, Usage

from .backends.base import BackendError, Embeddings, ErrorKind, Event, Final, Text, Thinking, ToolCalls
from .filters.output import OutputFilter
from .queue.types import Claim

FLOAT_BYTES = 20
"""About what one number of a vector takes as JSON."""


class Answer:
    """Gathers a stream's events, within a bound, and of them what may be shown."""

    def __init__(self, max_bytes: int, shown: OutputFilter | None = None) -> None:
        """``shown``: what lets text and tool calls go. None: all of it goes."""
        self._max_bytes = max_bytes
        self._shown = shown
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._bytes = 0
        self.tool_calls: list[dict[str, Any]] = []
        self.vectors: list[list[float]] | None = None
        self.final: Final | None = None

    def take(self, event: Event) -> tuple[str, str] | None:
        """Add an event; answers (kind, text) where it is something to stream. Raises BackendError past the bound, and
        ``filtered``."""
        match event:
            case Text(text):
                return self._take_text("text", self._text, text)
            case Thinking(text):
                return self._take_text("thinking", self._thinking, text)
            case ToolCalls(calls):
                self._count(len(str(calls)))
                self.tool_calls += self._shown.tool_calls(calls) if self._shown else calls
            case Embeddings(vectors):
                self._count(FLOAT_BYTES * sum(len(vector) for vector in vectors))
                self.vectors = vectors
            case Final():
                self.final = event
        return None

    async def end(self) -> list[tuple[str, str]]:
        """Once it is whole: (kind, text) of what was held back until then, to stream. Raises as ``take`` does."""
        if self._shown is None:
            return []
        rest = await self._shown.end()
        self.tool_calls += rest.tool_calls
        for kind, text in rest.pieces:
            (self._text if kind == "text" else self._thinking).append(text)
        return rest.pieces

    def _take_text(self, kind: str, parts: list[str], text: str) -> tuple[str, str] | None:
        text = text if text.isascii() else whole_characters(text)
        self._count(len(text) if text.isascii() else len(text.encode()))
        if self._shown and not (text := self._shown.feed(kind, text)):
            return None
        parts.append(text)
        return kind, text

    def _count(self, more: int) -> None:
        self._bytes += more
        if self._bytes > self._max_bytes:
            what = f"an answer of more than {self._max_bytes} bytes (OUTPUT_MAX_BYTES)"
            raise BackendError(ErrorKind.PERMANENT, "output_too_large", what)

    def succeeded(
        self,
        job_id: str,
        job: Job,
        claim: Claim,
        model: str,
        timings: Timings,
        worker: str,
        flags: Sequence[str] = (),
    ) -> Result:
        """The result of a whole answer. ``flags``: those of the job's own text."""
        final = self.final or Final()
        return Result(
            id=job_id,
            status=Status.SUCCEEDED,
            model_used=model,
            content="".join(self._text) if job.type != "embed" else None,
            thinking="".join(self._thinking) or None,
            tool_calls=self.tool_calls or None,
            embeddings=self.vectors,
            finish_reason=final.finish_reason,
            usage=Usage(
                input_tokens=final.input_tokens, output_tokens=final.output_tokens, shared=final.shared or None
            ),
            timings=timings.model_copy(update={"load": final.load_s}),
            attempts=claim.element.attempts + (0 if final.cached else 1),
            cached=final.cached or None,
            flags=list(dict.fromkeys([*flags, *(self._shown.flags if self._shown else ())])) or None,
            worker=worker,
            handle=claim.handle,
            metadata=job.metadata,
        )


def unanswered(
    job_id: str,
    claim: Claim,
    status: Status,
    worker: str,
    *,
    error: JobError | None = None,
    job: Job | None = None,
    timings: Timings | None = None,
    attempts: int | None = None,
) -> Result:
    """The result of a job that failed, expired or was cancelled. ``attempts``: times a model was asked."""
    return Result(
        id=job_id,
        status=status,
        error=error,
        timings=timings,
        attempts=claim.element.attempts if attempts is None else attempts,
        worker=worker,
        handle=claim.handle,
        metadata=job.metadata if job else None,
    )


def whole_characters(text: str) -> str:
    """Text without lone surrogates, which JSON can carry and UTF-8 can't; pairs that were split are joined."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
