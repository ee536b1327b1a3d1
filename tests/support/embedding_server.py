"""A server that embeds, for tests in virtual time, and jobs that ask it through an Embedder."""

import asyncio
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from llmpool_worker.backends.base import BackendError, Batch, ErrorKind
from llmpool_worker.embedding import Embedded, Embedder

SIZE = 4
GATHER_S = 0.005
CALL_S = 0.02


def vector_of(text: str) -> list[float]:
    return [float(len(text)), float(zlib.crc32(text.encode()))]


@dataclass
class Server:
    """Takes CALL_S per call. What a text begins with is what becomes of a call that it is in."""

    calls: list[list[str]] = field(default_factory=list)
    closed: list[list[str]] = field(default_factory=list)
    under_way: dict[str, int] = field(default_factory=dict)
    most: int = 0
    answer: Callable[[list[str]], Batch] | None = None

    async def __call__(self, texts: list[str], model: str) -> Batch:
        self.calls.append(texts)
        self.under_way[model] = self.under_way.get(model, 0) + 1
        self.most = max(self.most, self.under_way[model])
        try:
            await asyncio.sleep(CALL_S)
        except asyncio.CancelledError:
            self.closed.append(texts)
            raise
        finally:
            self.under_way[model] -= 1
        self._fail(texts)
        return self.answer(texts) if self.answer else Batch([vector_of(t) for t in texts], 2 * len(texts), 0.5)

    def _fail(self, texts: list[str]) -> None:
        faults = {
            "refused": ErrorKind.PERMANENT,
            "model_not_found": ErrorKind.PERMANENT,
            "runner_died": ErrorKind.RETRYABLE,
            "backend_failed": ErrorKind.RETRYABLE,
            "backend_busy": ErrorKind.UNAVAILABLE,
        }
        for text in texts:
            if kind := faults.get(text.partition(" ")[0]):
                raise BackendError(kind, text.partition(" ")[0], "why", said=text, retry_after_s=3.0)
        if any(text.startswith("bug") for text in texts):
            raise ZeroDivisionError


def embedder(server: Server, *, more_expected: bool = True, max_calls: int = 1, size: int = SIZE) -> Embedder:
    return Embedder(
        server, batch_size=size, gather_s=GATHER_S, more_expected=lambda: more_expected, max_calls=max_calls
    )


async def together(made: Embedder, *jobs: list[str]) -> list[Embedded | BaseException]:
    """All jobs ask at the same moment."""
    return await asyncio.gather(*(made.embed(texts, "m") for texts in jobs), return_exceptions=True)


def codes(outcomes: list[Embedded | BaseException]) -> list[str]:
    """What each job came to, in a word."""
    return [outcome.code if isinstance(outcome, BackendError) else type(outcome).__name__ for outcome in outcomes]
