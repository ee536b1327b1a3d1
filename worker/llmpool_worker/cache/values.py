"""An answer as it is kept, and as it is told again. Pure."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from llmpool_worker.backends.base import Event, Final, Text, Thinking, ToolCalls

_NO_COUNT = 2**32 - 1


class KeptAnswer(BaseModel):
    """A chat's or a prompt's answer. Which model gave it is in the key."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    content: str = ""
    thinking: str = ""
    tool_calls: list[dict[str, Any]] | None = None
    finish_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None

    def to_json(self) -> bytes:
        """Compact JSON without what is None."""
        return self.model_dump_json(exclude_none=True).encode()

    def events(self) -> list[Event]:
        """The answer as a model would give it, each kind of text in one piece, with the tokens that it took then."""
        told: list[Event] = []
        if self.thinking:
            told.append(Thinking(self.thinking))
        if self.content:
            told.append(Text(self.content))
        if self.tool_calls:
            told.append(ToolCalls(self.tool_calls))
        return [*told, Final(self.finish_reason, self.input_tokens, self.output_tokens, cached=True)]


class Gathered:
    """What passes by of an answer, as long as it is worth keeping."""

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._final: Final | None = None

    def take(self, event: Event) -> None:
        """Look at an event. Past the bound nothing is held any more."""
        match event:
            case Text(text) | Thinking(text):
                self._left -= len(text)
                parts = self._text if isinstance(event, Text) else self._thinking
                parts.append(text if self._left >= 0 else "")
            case ToolCalls(calls):
                self._calls += calls
            case Final():
                self._final = event

    def whole(self) -> KeptAnswer | None:
        """The answer, None: it has no end, or is too large."""
        if self._final is None or self._left < 0:
            return None
        return KeptAnswer(
            content="".join(self._text),
            thinking="".join(self._thinking),
            tool_calls=self._calls or None,
            finish_reason=self._final.finish_reason,
            input_tokens=self._final.input_tokens,
            output_tokens=self._final.output_tokens,
        )


@dataclass(frozen=True, slots=True)
class KeptVector:
    """One text's embedding, and its tokens where they were counted for it alone."""

    vector: Sequence[float]
    input_tokens: int | None = None

    def to_bytes(self) -> bytes:
        """Its count, then each number as 8 bytes, so that it comes back to the last digit: JSON would take twice that.
        Raises ValueError where something isn't a number."""
        count = _NO_COUNT if self.input_tokens is None else self.input_tokens
        try:
            return struct.pack(f"<I{len(self.vector)}d", count, *self.vector)
        except (struct.error, OverflowError) as error:
            raise ValueError("vector: wanted numbers") from error

    @classmethod
    def from_bytes(cls, raw: bytes) -> KeptVector:
        """Raises ValueError where it can't have been written here."""
        size, rest = divmod(len(raw) - 4, 8)
        if rest or size < 1:
            raise ValueError(f"vector: {len(raw)} bytes are none")
        count, *vector = struct.unpack(f"<I{size}d", raw)
        if not all(map(math.isfinite, vector)):
            raise ValueError("vector: not all numbers are finite")
        return cls(vector, None if count == _NO_COUNT else count)
