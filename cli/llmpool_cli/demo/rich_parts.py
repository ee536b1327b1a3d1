"""Two things that rich doesn't have: a part of fixed height, and a bar of several shares."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.text import Text


class Fixed:
    """Always so many lines: the first of several renderings that fits, else the end of the last one."""

    def __init__(self, lines: int, renderings: Iterable[RenderableType]) -> None:
        self._lines = lines
        self._renderings = tuple(renderings)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Choose and fill up."""
        lines: list[list[Segment]] = []
        for rendering in self._renderings:
            lines = console.render_lines(rendering, options.update(height=None), pad=True)
            if len(lines) <= self._lines:
                break
        blank = [Segment(" " * options.max_width)]
        for line in [*lines[-self._lines :], *([blank] * (self._lines - len(lines)))]:
            yield from line
            yield Segment.line()


class Strip:
    """Shares of a whole in their colours, as wide as there is room."""

    def __init__(self, shares: Iterable[tuple[int, str]]) -> None:
        self._shares = tuple(shares)

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """One line."""
        whole = sum(count for count, _ in self._shares) or 1
        text, counted, drawn = Text(), 0, 0
        for count, style in self._shares:
            counted += count
            end = options.max_width * counted // whole
            text.append("━" * (end - drawn), style=style)
            drawn = end
        yield text
