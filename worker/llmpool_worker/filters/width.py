"""How long a match of a regular expression can be. Pure.

Text that is streamed can be let go once no match can reach back to it, so the longest match must be known beforehand.
RE2 doesn't tell, so its syntax (https://github.com/google/re2/wiki/Syntax) is read once more here, for widths alone;
RE2 has accepted the pattern before, so what isn't known here can be counted without being checked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_NESTING = 50
"""Groups within groups."""

_REPEAT = re.compile(r"\{(\d+)(?:(,)(\d*))?\}")
_GROUP_OPENING = re.compile(r"\((?:\?P?<\w+>|\?[a-zA-Z-]*[:)]|)")
_ESCAPE = re.compile(r"\\(?:[pP](?:\{[^}]*\}|.)|x(?:\{[0-9A-Fa-f]+\}|[0-9A-Fa-f]{2})|[0-7]{1,3}|.)", re.DOTALL)
_CLASS = re.compile(r"\[\^?\]?(?:\[:\^?\w+:\]|\\[pP]\{[^}]*\}|\\.|[^\]\\])*\]", re.DOTALL)


class BadPattern(ValueError):
    """A pattern that can't be used. The message says what to write instead."""


@dataclass(frozen=True, slots=True)
class Width:
    """Characters. ``most`` None: there is no longest match."""

    least: int
    most: int | None

    def then(self, other: Width) -> Width:
        """One after the other."""
        most = None if self.most is None or other.most is None else self.most + other.most
        return Width(self.least + other.least, most)

    def either(self, other: Width) -> Width:
        """One or the other."""
        most = None if self.most is None or other.most is None else max(self.most, other.most)
        return Width(min(self.least, other.least), most)

    def times(self, least: int, most: int | None) -> Width:
        """``least`` to ``most`` of it in a row."""
        if self.most == 0:
            return Width(0, 0)
        return Width(self.least * least, None if most is None or self.most is None else self.most * most)


_NOTHING, _ONE = Width(0, 0), Width(1, 1)


def longest_match(pattern: str, limit: int) -> int:
    """The most characters that a match of an RE2 pattern can have. Raises BadPattern beyond ``limit``, and at 0."""
    width = _Reader(pattern).alternatives()
    if width.most is None:
        raise BadPattern("a match could have any length: write {0,50} for *, {1,50} for +")
    if width.least == 0:
        raise BadPattern("it matches an empty text, and so everything")
    if width.most > limit:
        raise BadPattern(f"a match could have {width.most} characters, allowed are {limit}")
    return width.most


class _Reader:
    """Recursive descent over a pattern."""

    def __init__(self, pattern: str) -> None:
        self._pattern, self._at, self._depth = pattern, 0, 0

    def alternatives(self) -> Width:
        width = self._sequence()
        while self._skip("|"):
            width = width.either(self._sequence())
        return width

    def _sequence(self) -> Width:
        width = _NOTHING
        while self._at < len(self._pattern) and self._pattern[self._at] not in "|)":
            width = width.then(self._repeated(self._atom()))
        return width

    def _atom(self) -> Width:
        match self._pattern[self._at]:
            case "(":
                return self._group()
            case "[":
                self._take(_CLASS)
                return _ONE
            case "\\":
                return self._escape()
            case "^" | "$":
                self._at += 1
                return _NOTHING
        self._at += 1
        return _ONE

    def _group(self) -> Width:
        opening = self._take(_GROUP_OPENING)
        if opening.endswith(")"):  # flags, as in (?i)
            return _NOTHING
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise BadPattern(f"groups are nested more than {MAX_NESTING} deep")
        width = self.alternatives()
        self._depth -= 1
        self._skip(")")
        return width

    def _escape(self) -> Width:
        escape = self._take(_ESCAPE)
        if escape == r"\Q":
            raise BadPattern(r"\Q isn't read here: put a \ before each character instead")
        if escape == r"\C":
            raise BadPattern(r"\C is half a character: write . or [\s\S]")
        return _NOTHING if escape in (r"\b", r"\B", r"\A", r"\z") else _ONE

    def _repeated(self, width: Width) -> Width:
        while self._at < len(self._pattern):
            if self._skip("*"):
                width = width.times(0, None)
            elif self._skip("+"):
                width = width.times(1, None)
            elif self._skip("?"):
                width = width.times(0, 1)
            elif found := _REPEAT.match(self._pattern, self._at):
                self._at = found.end()
                least = int(found[1])
                width = width.times(least, least if not found[2] else int(found[3]) if found[3] else None)
            else:
                break
            self._skip("?")  # lazy: as wide
        return width

    def _skip(self, token: str) -> bool:
        if not self._pattern.startswith(token, self._at):
            return False
        self._at += len(token)
        return True

    def _take(self, kind: re.Pattern[str]) -> str:
        found = kind.match(self._pattern, self._at)
        if found is None:
            raise BadPattern(f"character {self._at + 1} of the pattern can't be read")
        self._at = found.end()
        return found[0]
