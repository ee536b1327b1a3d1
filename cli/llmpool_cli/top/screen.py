"""The live screen, by textual."""

from __future__ import annotations

import time
from typing import ClassVar, Protocol

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import DataTable, Footer, Input, Static
from textual.worker import Worker

from llmpool_cli.terminal import printable

from .frame import Frame
from .tables import Table, summary, tables

_MOST_LINES = 15
"""Of one table, which scrolls beyond."""
TITLES = ("Pools", "Queues", "Workers", "Models", "Decisions")


class Source(Protocol):
    """Whoever can look."""

    async def look(self) -> Frame:
        """One frame."""
        ...


class Top(App[None]):
    """Looks each ``every`` seconds. While a look is late the last frame stays, and says how old it is."""

    CSS = """
    #summary { height: auto; text-style: bold; padding: 0 1; }
    #missing { height: auto; color: $warning; padding: 0 1; }
    .title { text-style: bold; color: $accent; padding: 1 1 0 1; }
    DataTable { padding: 0 1; }
    #filter { display: none; dock: bottom; }
    """
    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = "#Queues"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("p", "pause", "Pause"),
        Binding("s", "sort", "Sort by next column"),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("escape", "unfilter", "All", show=False),
        Binding("tab", "app.focus_next", "Next table", show=False),
    ]

    def __init__(self, source: Source, *, every: float = 1.0) -> None:
        super().__init__()
        self._source = source
        self._every = every
        self._frame: Frame | None = None
        self._paused = False
        self._look: Worker[None] | None = None
        self._words = ""
        self._sorted: dict[str, int] = {}
        """Table -> the column that it is sorted by; absent: as it came."""

    def compose(self) -> ComposeResult:
        """Summary, what is missing, a table for each part, the filter's line, the keys."""
        yield Static("looking ...", id="summary")
        yield Static("", id="missing")
        with VerticalScroll(can_focus=False):
            for title in TITLES:
                yield Static(title, classes="title", id=f"title-{title}")
                yield DataTable[Text](id=title, cursor_type="row", zebra_stripes=True)
        yield Input(placeholder="show rows with ...", id="filter")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look."""
        self.set_interval(self._every, self._turn)
        self._turn()

    def _turn(self) -> None:
        """Begin a look, unless one is still under way: that one is late, and the frame grows old for all to see."""
        if not self._paused and (self._look is None or self._look.is_finished):
            self._look = self.run_worker(self._see(), exit_on_error=True)
        self._show()

    async def _see(self) -> None:
        self._frame = await self._source.look()
        self._show()

    def _show(self) -> None:
        if self._frame is None:
            return
        now = time.time()
        line = summary(self._frame, now=now) + ("  PAUSED" if self._paused else "")
        self.query_one("#summary", Static).update(Text(line))
        self.query_one("#missing", Static).update(
            Text("\n".join(f"not seen: {words}" for words in self._frame.missing))
        )
        seen = {table.title: table for table in tables(self._frame, now=now, words=self._words)}
        for title in TITLES:
            shown = self.query_one(f"#{title}", DataTable)
            there = title in seen
            shown.display = self.query_one(f"#title-{title}").display = there
            if there:
                self._fill(shown, seen[title])

    def _fill(self, shown: DataTable[Text], table: Table) -> None:
        place = shown.cursor_row
        shown.clear(columns=True)
        by = self._sorted.get(table.title)
        for n, header in enumerate(table.headers):
            shown.add_column(Text(f"{header} v" if n == by else header))
        rows = table.rows if by is None else sorted(table.rows, key=lambda row: _rank(row[by]))
        for row in rows:
            cells = [
                Text(printable(cell), justify="right" if n in table.numeric else "left") for n, cell in enumerate(row)
            ]
            shown.add_row(*cells)
        # A table measures itself before its rows are new.
        shown.styles.height = min(len(rows), _MOST_LINES) + 1
        if rows:
            shown.move_cursor(row=min(place, len(rows) - 1), animate=False)

    def action_pause(self) -> None:
        """Keep this frame; again: go on."""
        self._paused = not self._paused
        self._show()

    def action_sort(self) -> None:
        """Sort the table in focus by its next column; after the last one it is as it came."""
        if isinstance(self.focused, DataTable) and self.focused.id is not None:
            columns = len(self.focused.columns)
            following = self._sorted.pop(self.focused.id, -1) + 1
            if following < columns:
                self._sorted[self.focused.id] = following
            self._show()

    def action_filter(self) -> None:
        """Ask for words."""
        line = self.query_one("#filter", Input)
        line.display = True
        line.focus()

    def action_unfilter(self) -> None:
        """Show all rows again."""
        line = self.query_one("#filter", Input)
        line.value = ""
        line.display = False
        self.query_one("#Queues").focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter as words are typed."""
        self._words = event.value
        self._show()

    def on_input_submitted(self) -> None:
        """Keep the filter and go back to the tables."""
        self.query_one("#Queues").focus()


def _rank(cell: str) -> tuple[int, float, str]:
    """Numbers from the largest down, then words, then what isn't known."""
    if cell == "-":
        return (2, 0.0, "")
    try:
        return (0, -float(cell.split("/")[0].split(" ")[0]), cell)
    except ValueError:
        return (1, 0.0, cell)
