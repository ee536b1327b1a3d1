"""Finding one thing in a text, in time that is linear in it.

RE2 and not Python's ``re``: a pattern that backtracks would stop the whole worker for as long as it likes.
Texts are searched as UTF-8, positions are bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .width import BadPattern, longest_match

MAX_LONGEST = 1_024
"""Characters of a match. A stream is held back by that much."""
MAX_PROGRAM = 10_000
"""Instructions of a pattern that somebody wrote, as RE2 counts them: one text costs at worst text times program."""
_PATTERN_MEMORY, _KEYWORDS_MEMORY = 8 * 1_048_576, 64 * 1_048_576
"""Bounds of what RE2 keeps per rule, program and states. It searches more slowly, but rightly, where it runs out."""

HIDDEN = "hide"
"""The named group that is the find, where a pattern has one: what is around it stays."""

Check = Callable[[str], int | None]
"""How many of a candidate's characters (ASCII, as are its patterns') are really a find; None: none of them."""


class _Match(Protocol):
    def start(self) -> int: ...
    def span(self, group: int = 0) -> tuple[int, int]: ...


class _Pattern(Protocol):
    programsize: int
    groupindex: dict[bytes, int]

    def search(self, text: bytes, pos: int) -> _Match | None: ...


@dataclass(frozen=True, slots=True)
class Found:
    """One match: where it begins, where the next may begin, and what of it is the find. None: it failed its check."""

    start: int
    resume: int
    span: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Matcher:
    """A compiled pattern. Whether it matches at a place depends on ``longest`` characters after it and one before."""

    pattern: _Pattern
    longest: int
    check: Check | None = None
    group: int = 0
    """The group that is the find; 0: all of the match."""

    def next(self, data: bytes, at: int) -> Found | None:
        """The first match that begins at ``at`` or later."""
        match = self.pattern.search(data, at)
        if match is None:
            return None
        begin, end = match.span(self.group)
        if begin == end:  # the group took no part
            begin, end = match.span()
        if self.check is None:
            return Found(match.start(), end, (begin, end))
        length = self.check(data[begin:end].decode())
        if length is None:
            return Found(match.start(), _next_character(data, match.start()), None)
        return Found(match.start(), begin + length, (begin, begin + length))


def _next_character(data: bytes, at: int) -> int:
    at += 1
    while at < len(data) and data[at] & 0xC0 == 0x80:
        at += 1
    return at


def of_pattern(pattern: str, *, case_sensitive: bool = True, check: Check | None = None) -> Matcher:
    """Compile an RE2 pattern. Raises BadPattern."""
    compiled = _compile(pattern, case_sensitive, _PATTERN_MEMORY)
    if compiled.programsize > MAX_PROGRAM:
        raise BadPattern(
            f"it has {compiled.programsize} instructions, allowed are {MAX_PROGRAM}: repeat less, or repeat ASCII only"
        )
    longest = longest_match(pattern, MAX_LONGEST)
    return Matcher(compiled, longest, check, compiled.groupindex.get(HIDDEN.encode(), 0))


def of_keywords(words: Sequence[str], *, case_sensitive: bool = False) -> Matcher:
    """Whole words or phrases in any script. A blank in one is any amount of white space up to eight characters."""
    # RE2's \b knows ASCII only, so the neighbours are part of the match: no letter, digit, mark or underscore.
    edge = r"[^\pL\pM\pN_]"
    texts = sorted({r"\s{1,8}".join(map(_quoted, word.split())) for word in words}, key=len, reverse=True)
    pattern = f"(?:^|{edge})(?P<{HIDDEN}>{'|'.join(texts)})(?:{edge}|$)"
    compiled = _compile(pattern, case_sensitive, _KEYWORDS_MEMORY)
    return Matcher(compiled, longest_match(pattern, MAX_LONGEST), group=1)


def _quoted(word: str) -> str:
    return "".join(char if char.isalnum() or ord(char) > 127 else f"\\{char}" for char in word)


def _compile(pattern: str, case_sensitive: bool, memory: int) -> _Pattern:
    import re2  # only workers that filter need it

    options: Any = re2.Options()
    options.case_sensitive = case_sensitive
    options.max_mem = memory
    options.log_errors = False
    try:
        compiled: _Pattern = re2.compile(pattern.encode(), options)
    except re2.error as error:
        raise BadPattern(f"not a pattern of RE2: {_said(error)}") from None
    return compiled


def _said(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
