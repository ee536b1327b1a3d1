"""Where a run plays, and who watches it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from llmpool_contract.pool import LLMWorkerPool

from .story import Story


class GaveUp(Exception):
    """The workers don't run, so the story can't come to its end."""


class Screen(Protocol):
    """Shows a story as it goes."""

    def show(self, story: Story) -> None:
        """A moment has passed."""

    def say(self, line: str) -> None:
        """Something outside the story."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What the run needs of its surroundings."""

    pool: LLMWorkerPool
    redis_url: str = field(repr=False)
    model_url: str = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)
    """Of the workers."""
    workers_log: int
    """A file descriptor for what the workers print."""
    timeout_s: float
