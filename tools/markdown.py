"""What the tools and tests of the documents read in Markdown: links, headings' anchors, code blocks."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

_FENCE = re.compile(
    r"^(?P<mark>```+)(?P<language>[\w-]*)[^\n]*\n(?P<text>.*?)^(?P=mark)[ ]*$", re.MULTILINE | re.DOTALL
)
_CODE = re.compile(r"(?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`)", re.DOTALL)
_LINK = re.compile(r"\]\((?P<target>[^()\s]*(?:\([^()\s]*\)[^()\s]*)*)\)")
_HEADING = re.compile(r"^#{1,6} +(?P<text>.+?) *#*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Fence:
    """A code block between lines of backticks."""

    language: str
    text: str
    line: int
    """Of its first line of code, from 1."""


@dataclass(frozen=True, slots=True)
class Link:
    """A link or an image: where its target stands in the text."""

    target: str
    start: int
    end: int


def fences(markdown: str) -> list[Fence]:
    """The code blocks, in their order."""
    return [
        Fence(found["language"], found["text"], markdown.count("\n", 0, found.start()) + 2)
        for found in _FENCE.finditer(markdown)
    ]


def links(markdown: str) -> list[Link]:
    """The links outside of code, in their order."""
    prose = without_code(markdown)
    return [Link(found["target"], found.start("target"), found.end("target")) for found in _LINK.finditer(prose)]


def without_code(markdown: str) -> str:
    """The same text, as long as before, with blanks where code was (line ends stay)."""
    for pattern in (_FENCE, _CODE):
        markdown = pattern.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), markdown)
    return markdown


def anchors(markdown: str) -> set[str]:
    """The anchors of the headings, as code hosts and the site make them: a second heading of a name ends in -1."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in _headings(markdown):
        slug = _slug(heading)
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def _headings(markdown: str) -> list[str]:
    blocks = [(found.start(), found.end()) for found in _FENCE.finditer(markdown)]
    return [
        found["text"]
        for found in _HEADING.finditer(markdown)
        if not any(start <= found.start() < end for start, end in blocks)
    ]


def _slug(heading: str) -> str:
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")
