"""A line whenever something changed, at most one a second: for pipes, logs and terminals that can do no more."""

from __future__ import annotations

import typer

from llmpool_cli.terminal import printable

from .story import News, Story

EVERY_S = 1.0


class PlainScreen:
    """Prints what is new since its last line."""

    def __init__(self) -> None:
        self._told = 0
        self._last = ""
        self._last_at = -EVERY_S
        self._read: set[str] = set()

    def show(self, story: Story) -> None:
        """Print news at once, numbers once a second, a streamed answer when it is whole."""
        for news in story.news[self._told :]:
            typer.echo(f"{clock(news.at)}  {news_line(news)}")
        self._told = len(story.news)
        line = numbers(story)
        if line != self._last and (story.over or story.now - self._last_at >= EVERY_S):
            typer.echo(f"{clock(story.now)}  {line}")
            self._last, self._last_at = line, story.now
        for job_id in story.streams.keys() & story.results.keys() - self._read:
            self._read.add(job_id)
            answer = " ".join(printable(story.streams[job_id]).split())
            typer.echo(f"{clock(story.now)}  streamed: {story.burst.question(job_id)} {answer}")

    def say(self, line: str) -> None:
        """Print a line."""
        typer.echo(line)


def clock(seconds: float) -> str:
    """``1:05``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def news_line(news: News) -> str:
    """``2 -> 4  ScaleUpLimit: ...``."""
    return f"{news.what}  {news.reason}: {news.message}".lstrip()


def numbers(story: Story) -> str:
    """The state of things in one line."""
    rate = story.tokens_per_s
    return (
        f"queued {story.queued}  in flight {story.in_flight}  succeeded {len(story.succeeded)}"
        f"  expired {story.expired}  dead letters {len(story.dead)}"
        f"  workers {story.existing}" + (f"  {rate:.0f} tokens/s" if rate is not None else "")
    )
