"""Which models fit into a server's memory together. Nobody tells, so it is reckoned where that can be, else learnt.

Ollama has no endpoint for its free memory (``/api/ps`` tells what each loaded model takes). A total may be given
(MODEL_MEMORY_BYTES) or read from NVML beside it; a count may be given (OLLAMA_MAX_LOADED_MODELS). Without either, what
happened counts: models that were seen resident together fit, and a load that pushed another model out showed that they
don't.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

ESTIMATE = 1.25
"""Memory of a model that was never loaded, over the size of its file: weights, context and buffers."""


class Fit(StrEnum):
    """An answer to: would these models fit together?"""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Memory:
    """What the configuration and the card tell. None: nobody said."""

    total_bytes: int | None = None
    threshold: float = 0.8
    """Of the total: MODEL_MEMORY_THRESHOLD."""
    max_loaded: int | None = None


class Fits:
    """What is known of one server's memory."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self._sizes: dict[str, int] = {}
        self._files: dict[str, int] = {}
        self._together: set[frozenset[str]] = set()
        self._apart: set[frozenset[str]] = set()

    def on_disk(self, sizes: Mapping[str, int | None]) -> None:
        """Sizes of the models' files, bytes."""
        self._files |= {name: size for name, size in sizes.items() if size}

    def seen(self, resident: Mapping[str, int | None]) -> None:
        """These are resident now, with their sizes in bytes."""
        self._sizes |= {name: size for name, size in resident.items() if size}
        together = frozenset(resident)
        if len(together) > 1 and not any(together <= known for known in self._together):
            self._together = {known for known in self._together if not known <= together} | {together}
            self._apart = {known for known in self._apart if not known <= together}

    def loaded(self, model: str, before: Iterable[str], after: Iterable[str]) -> None:
        """``model`` was loaded beside ``before``; ``after`` is what was resident then. What is gone was pushed out."""
        gone = frozenset(before) - frozenset(after) - {model}
        if gone:
            apart = frozenset(before) | {model}
            self._apart.add(apart)
            self._together = {known for known in self._together if not apart <= known}

    def total_from(self, cards: Iterable[int | None]) -> None:
        """The memory of all GPUs together, bytes; a card that doesn't tell leaves it unknown."""
        known = list(cards)
        if known and all(known):
            self.memory = replace(self.memory, total_bytes=sum(size for size in known if size))

    def of(self, models: Iterable[str]) -> Fit:
        """Would exactly these fit together? One alone always may be tried."""
        wanted = frozenset(models)
        if len(wanted) <= 1:
            return Fit.YES
        if self.memory.max_loaded is not None and len(wanted) > self.memory.max_loaded:
            return Fit.NO
        if any(wanted <= known for known in self._together):
            return Fit.YES
        if any(known <= wanted for known in self._apart):
            return Fit.NO
        if self.memory.total_bytes is not None:
            sizes = [self.size_of(model) for model in wanted]
            known = [size for size in sizes if size is not None]
            if sum(known) > self.memory.threshold * self.memory.total_bytes:
                return Fit.NO
            if len(known) == len(sizes):
                return Fit.YES
        return Fit.UNKNOWN

    def size_of(self, model: str) -> int | None:
        """Bytes that it takes or is likely to; None: neither seen loaded nor on disk."""
        if model in self._sizes:
            return self._sizes[model]
        return int(self._files[model] * ESTIMATE) if model in self._files else None
