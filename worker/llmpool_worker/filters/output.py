"""An answer on its way out: nothing is let go before it has been looked at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from llmpool_worker.backends.base import BackendError, ErrorKind

from .findings import Findings, RuleBlocks
from .redactor import Redactor
from .scanner import Scanner
from .texts import Change, changed


@dataclass(frozen=True, slots=True)
class Rest:
    """What was held back until the answer was whole."""

    pieces: list[tuple[str, str]] = field(default_factory=list)
    """(kind, text), kinds as they were fed."""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)

    def changed(self, change: Change) -> Rest:
        """The same with every text of it changed."""
        return Rest([(kind, change(text)) for kind, text in self.pieces], changed(self.tool_calls, change))


Finish = Callable[[Rest], Awaitable[Rest]]
"""The analyzers' and the hook's word on a whole answer: what it becomes. Raises RuleBlocks and BackendError."""


class OutputFilter:
    """One attempt's answer. Everything raises BackendError: ``filtered`` for a block, after which the attempt's stream
    is void, and what the hook's absence comes to."""

    def __init__(self, scanner: Scanner, findings: Findings, finish: Finish | None) -> None:
        """``finish`` None: rules over pieces are all there is, and only what a match could reach back to is held."""
        self._scanner, self._findings, self._finish = scanner, findings, finish
        self._redactors: dict[str, Redactor] = {}
        self._held: dict[str, list[str]] = {}
        self._calls: list[dict[str, Any]] = []

    @property
    def flags(self) -> list[str]:
        """For the result, once the answer has ended."""
        return self._findings.flags

    def feed(self, kind: str, text: str) -> str:
        """A piece of a kind of text (``text``, ``thinking``); answers what may be shown of that kind by now."""
        with _blocks():
            if kind not in self._redactors and (made := self._scanner.redactor()):
                self._redactors[kind] = made
            known = self._redactors.get(kind)
            text = known.feed(text) if known else text
        return self._let_go(kind, text)

    def tool_calls(self, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Whole calls; answers those that may be shown by now."""
        with _blocks():
            made: list[dict[str, Any]] = changed(calls, self._without_analyzers)
        if self._finish is None:
            return made
        self._calls += made
        return []

    async def end(self) -> Rest:
        """The answer is whole: the rest of it. Not for an answer that broke off, whose held text is nobody's."""
        with _blocks():
            for kind, redactor in self._redactors.items():
                self._held.setdefault(kind, []).append(redactor.end())
            rest = Rest([(kind, "".join(parts)) for kind, parts in self._held.items()], self._calls)
            if self._finish is not None:
                rest = await self._finish(rest)
        return Rest([(kind, text) for kind, text in rest.pieces if text], rest.tool_calls)

    def _let_go(self, kind: str, text: str) -> str:
        if self._finish is None:
            return text
        self._held.setdefault(kind, []).append(text)
        return ""

    def _without_analyzers(self, text: str) -> str:
        redactor = self._scanner.redactor()
        return redactor.whole(text) if redactor else text


class _blocks:  # noqa: N801 - used as a statement
    """Turns a block into the error that ends an attempt. It isn't the model server's."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, RuleBlocks):
            raise BackendError(ErrorKind.PERMANENT, "filtered", error.reason) from None
