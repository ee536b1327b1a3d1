"""Boxes and arrows as SVG, for the pictures of the documents: light and dark by the reader's own setting."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_STYLE = """
  svg { color-scheme: light dark; }
  .ground { fill: #ffffff; }
  text { font: 14px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: #1f2430; }
  .title { font-weight: 600; }
  .small { font-size: 12px; fill: #5b6270; }
  .box { fill: #f4f5f9; stroke: #c3c8d4; stroke-width: 1.2; }
  .store { fill: #fdf3ec; stroke: #e0b394; }
  .ours { fill: #e9edfb; stroke: #8296dd; }
  .model { fill: #e9f6ef; stroke: #86c3a0; }
  .frame { fill: none; stroke: #c3c8d4; stroke-dasharray: 5 4; }
  .arrow { fill: none; stroke: #5b6270; stroke-width: 1.5; }
  .faint { stroke-dasharray: 4 4; }
  .head { fill: #5b6270; }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #171a21; }
    text { fill: #e6e8ee; }
    .small { fill: #a3abbb; }
    .box { fill: #232833; stroke: #454d5e; }
    .store { fill: #33281f; stroke: #8a6548; }
    .ours { fill: #242c4a; stroke: #5f74c4; }
    .model { fill: #1e3329; stroke: #4c8a67; }
    .frame { stroke: #454d5e; }
    .arrow { stroke: #a3abbb; }
    .head { fill: #a3abbb; }
  }
"""
_LINE = 18
"""Pixels between two lines of text."""


class Drawing:
    """Collects the parts of a picture; ``svg()`` is the whole of it. Lengths are pixels."""

    def __init__(self, width: int, height: int, title: str, description: str) -> None:
        self._size = (width, height)
        self._words = (title, description)
        self._parts: list[str] = []

    def box(self, x: int, y: int, width: int, height: int, title: str, *lines: str, kind: str = "") -> None:
        """A box with a title and smaller lines under it. ``kind``: ours, store, model, or none."""
        self._parts.append(f'<rect class="box {kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>')
        first = y + height / 2 - _LINE * len(lines) / 2 + 5
        self.text(x + width // 2, first, title, "title")
        for number, line in enumerate(lines, 1):
            self.text(x + width // 2, first + number * _LINE, line, "small")

    def frame(self, x: int, y: int, width: int, height: int, title: str) -> None:
        """A dashed frame around what belongs together, its title at the top left."""
        self._parts.append(f'<rect class="frame" x="{x}" y="{y}" width="{width}" height="{height}" rx="10"/>')
        self.text(x + 12, y + 20, title, "small", anchor="start")

    def text(self, x: float, y: float, text: str, kind: str = "small", anchor: str = "middle") -> None:
        self._parts.append(f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>')

    def arrow(
        self, points: Sequence[tuple[int, int]], label: str = "", at: tuple[int, int] | None = None, faint: bool = False
    ) -> None:
        """A line through the points with a head at its end, and a label centred at ``at``."""
        path = "M" + " L".join(f"{x} {y}" for x, y in points)
        kind = "arrow faint" if faint else "arrow"
        self._parts.append(f'<path class="{kind}" d="{path}" marker-end="url(#head)"/>')
        if label and at:
            self.text(*at, label)

    def svg(self) -> str:
        """The file's text."""
        width, height = self._size
        title, description = map(escape, self._words)
        body = "\n  ".join(self._parts)
        size = f'width="{width}" height="{height}"'
        return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {size}
     role="img" aria-labelledby="t d">
  <title id="t">{title}</title>
  <desc id="d">{description}</desc>
  <style>{_STYLE}  </style>
  <defs>
    <marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">
      <path class="head" d="M0 0 L10 5 L0 10 z"/>
    </marker>
  </defs>
  <rect class="ground" {size} rx="12"/>
  {body}
</svg>
"""
