"""The story on a terminal: one frame that is drawn over and over, and fits 80 columns and 24 lines."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from llmpool_cli.terminal import printable
from llmpool_contract import WorkerReport, WorkerState

from .plain import clock
from .pool import IDLE_SECONDS, MOST_WORKERS
from .rich_parts import Fixed, Strip
from .story import News, Story

FIXED_LINES = 13
"""The frame without decisions and answer: border, headings, numbers, workers, and a line for the cursor."""
LEAST_LINES, MOST_NEWS, MOST_ANSWER = 2, 10, 4
STATE_STYLES = {
    WorkerState.STARTING: "yellow",
    WorkerState.READY: "green",
    WorkerState.DRAINING: "magenta",
    WorkerState.DRAINED: "dim",
}


class LiveScreen:
    """Draws over its last frame; what is said stays above it."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, story: Story) -> None:
        """Draw the next frame."""
        self._live.update(frame(story, self._title, self._console.height), refresh=True)

    def say(self, line: str) -> None:
        """A line above the frame."""
        self._console.print(Text(line))


def frame(story: Story, title: str, height: int) -> Panel:
    """One frame for a terminal of so many lines."""
    spare = max(2 * LEAST_LINES, height - FIXED_LINES)
    answer_lines = min(MOST_ANSWER, max(LEAST_LINES, spare * 2 // 5))
    news_lines = min(MOST_NEWS, spare - answer_lines)
    body = Group(
        bar(story),
        counts(story),
        Text(),
        workers(story),
        heading("scale decisions"),
        Fixed(news_lines, (news_table(story.news[-n:]) for n in range(news_lines, 0, -1))),
        heading(f"streamed answer: {question(story)}"),
        Fixed(answer_lines, [Text(answer(story), style="cyan")]),
    )
    return Panel(
        body,
        title=Text(title, style="bold"),
        title_align="left",
        subtitle=Text(f"{clock(story.now)}  {phase(story)}", style="dim"),
        subtitle_align="left",
        border_style="blue",
    )


def heading(text: str) -> Text:
    """A section's name, cut where the line ends."""
    return Text(printable(text), style="bold", no_wrap=True, overflow="ellipsis")


def bar(story: Story) -> Table:
    """All jobs as one bar: ended, in flight, waiting."""
    ended = story.burst.size - story.lost
    running = min(story.in_flight, story.lost)
    line = Table.grid(expand=True, padding=(0, 1))
    line.add_column(ratio=1)
    line.add_column(justify="right", no_wrap=True)
    parts = ((ended, "green"), (running, "yellow"), (story.lost - running, "bright_black"))
    line.add_row(Strip(parts), f"{ended} of {story.burst.size} jobs have ended")
    return line


def counts(story: Story) -> Text:
    """What is where."""
    rate = story.tokens_per_s
    shown = (
        ("queued", story.queued, "bright_black"),
        ("in flight", story.in_flight, "yellow"),
        ("succeeded", len(story.succeeded), "green"),
        ("expired", story.expired, "magenta"),
        ("dead", len(story.dead), "red"),
    )
    text = Text(no_wrap=True, overflow="ellipsis")
    for name, figure, style in shown:
        text.append(f"{name} ").append(f"{figure}", style=f"bold {style}").append("   ")
    return text.append("- tokens/s" if rate is None else f"{rate:.0f} tokens/s", style="bold cyan")


def workers(story: Story) -> Table:
    """A row for each worker that there may be."""
    table = Table(box=None, header_style="bold", pad_edge=False, expand=True)
    for name in ("workers", "state", "running", "done", "memory"):
        table.add_column(name, justify="right" if name in ("done", "memory") else "left", ratio=1)
    reports = sorted(story.reports.values(), key=lambda report: number(report.worker))
    starting, ending = story.unseen
    lines: list[tuple[RenderableType, ...]] = [worker_row(report) for report in reports]
    lines += [("worker", Text("starting", style="yellow"))] * starting
    lines += [("worker", Text("ending", style="bright_black"))] * ending
    lines += [(Text("-", style="bright_black"),)] * MOST_WORKERS
    for line in lines[:MOST_WORKERS]:
        table.add_row(*line)
    return table


def worker_row(report: WorkerReport) -> tuple[RenderableType, ...]:
    """What a worker tells of itself."""
    state = Text(report.state.value, style=STATE_STYLES[report.state])
    memory = "-" if report.memory_bytes is None else f"{report.memory_bytes / 1_000_000:.0f} MB"
    return f"worker {number(report.worker)}", state, dots(report), f"{report.done}", memory


def number(worker: str) -> int:
    """The last part of a worker's name, which counts them."""
    tail = worker.rpartition("-")[2]
    return int(tail) if tail.isdecimal() else 0


def dots(report: WorkerReport) -> Text:
    """A dot for each job that it may run, filled for those that it runs."""
    free = max(0, report.capacity - report.in_flight)
    return Text("●" * report.in_flight, style="yellow").append("○" * free, style="bright_black")


def news_table(news: Iterable[News]) -> Table:
    """When, from what to what, why."""
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for item in news:
        why = Text(item.reason, style="bold").append(f": {printable(item.message)}", style="not bold")
        table.add_row(Text(clock(item.at), style="bright_black"), Text(item.what, style="bold green"), why)
    return table


def question(story: Story) -> str:
    """What the answer on show was asked."""
    return story.burst.question(story.watched) if story.watched else "none yet"


def answer(story: Story) -> str:
    """The text so far, as one paragraph."""
    return " ".join(printable(story.streams[story.watched]).split()) if story.watched else ""


def phase(story: Story) -> str:
    """What the pool is at."""
    if story.over:
        return "all jobs have ended, all workers are gone"
    if story.lost:
        return "the pool follows the backlog  (Ctrl-C ends it early)"
    return f"all jobs have ended; to zero after {IDLE_SECONDS} s without work"
