"""Rules over a text that comes in pieces. However it is cut, what comes out is the same.

A match that begins at a place depends on that place, one character before it and as many after it as the longest match
has. So once so much more is known, every match that begins there is final: text before it is let go, the rest is held.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from .matching import Found, Matcher

STEP = 32
"""Characters that are gathered before the held text is searched again: a few tokens' wait, an eighth of the work."""
SLAB = 65_536
"""Characters of a whole text that are looked at together: bounds what matches take in memory."""


class TextRule(Protocol):
    """What is looked for, and what is put in its place."""

    @property
    def matcher(self) -> Matcher:
        """What finds it."""
        ...

    @property
    def replacement(self) -> str | None:
        """None: the text stays as it is, and one find is enough."""
        ...


class Finds(Protocol):
    """Is told of a find. Whatever it raises ends the work on the text."""

    def __call__(self, rule: TextRule, /) -> None: ...


class _Scan:
    """One rule's way through the text."""

    def __init__(self, order: int, rule: TextRule) -> None:
        self.order, self.rule, self.at, self.over = order, rule, 0, False

    def finds(self, data: bytes, horizon: int) -> Iterator[tuple[int, int]]:
        """(begin, end) of the finds whose match begins before ``horizon``."""
        while not self.over and (found := self._next(data, horizon)):
            self.at = found.resume
            if found.span:
                self.over = self.rule.replacement is None
                yield found.span
        self.at = max(self.at, horizon)

    def _next(self, data: bytes, horizon: int) -> Found | None:
        if self.at >= horizon:
            return None
        found = self.rule.matcher.next(data, self.at)
        return found if found and found.start < horizon else None


class Redactor:
    """One text, for all rules that look at it. Finds that overlap are taken out together, by the first one's word."""

    def __init__(self, rules: Sequence[TextRule], finds: Finds, step: int = STEP) -> None:
        self._scans = [_Scan(order, rule) for order, rule in enumerate(rules)]
        self._finds, self._step = finds, step
        self._longest = max(rule.matcher.longest for rule in rules)
        self._data = b""
        self._gone = 0
        """Bytes of it that are let go or replaced; one character of them is kept as context."""
        self._new = 0
        self._pending: list[tuple[int, int, int]] = []
        """(begin, order, end) of finds that begin in held text."""

    def feed(self, text: str) -> str:
        """The next piece; answers what can be let go by now, often nothing."""
        self._data += text.encode("utf-8", "replace")
        self._new += len(text)
        if self._new < self._step:
            return ""
        return self._look(self._horizon())

    def end(self) -> str:
        """The rest. The text is over."""
        return self._look(len(self._data) + 1)

    def whole(self, text: str) -> str:
        """All of a text at once."""
        parts = [self.feed(text[at : at + SLAB]) for at in range(0, len(text), SLAB)]
        return "".join([*parts, self.end()])

    def _horizon(self) -> int:
        if self._data.isascii():
            return max(0, len(self._data) - self._longest)
        return len(self._data.decode()[: -self._longest].encode())

    def _look(self, horizon: int) -> str:
        self._new = 0
        for scan in self._scans:
            for begin, end in scan.finds(self._data, horizon):
                self._finds(scan.rule)
                if scan.rule.replacement is not None:
                    self._pending.append((begin, scan.order, end))
        released = "".join(self._released(horizon))
        self._forget(horizon)
        return released

    def _released(self, horizon: int) -> Iterator[str]:
        """Text up to the horizon, with what takes the finds' place. A find that begins after it has to wait: another
        rule may still have one before it."""
        self._pending.sort()
        due = [find for find in self._pending if find[0] < horizon]
        del self._pending[: len(due)]
        for begin, order, end in due:
            if begin >= self._gone:
                yield self._data[self._gone : begin].decode()
                yield self._scans[order].rule.replacement or ""
            self._gone = max(self._gone, end)
        if horizon > self._gone:
            yield self._data[self._gone : horizon].decode()
            self._gone = horizon

    def _forget(self, horizon: int) -> None:
        """Drop what nobody will look at again, all but the character before it."""
        cut = min(horizon, len(self._data)) - 1
        while cut > 0 and self._data[cut] & 0xC0 == 0x80:
            cut -= 1
        if cut <= 0:
            return
        self._data = self._data[cut:]
        self._gone -= cut
        self._pending = [(begin - cut, order, end - cut) for begin, order, end in self._pending]
        for scan in self._scans:
            scan.at -= cut
