"""How a batch is to be submitted."""

from __future__ import annotations

from dataclasses import dataclass

from llmpool_contract import PRIORITIES, BadName, Priority, QueueKeys

from .file import BatchFile
from .record import MAX_NAME, checked_id, checked_name
from .requests import QUEUE_OF

LONGEST_S = 10 * 365 * 86_400.0
"""Most that a window may have, and the life of a record past it."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a batch is to be submitted. A batch that was begun keeps the terms that it was begun with.

    Raises:
        BadName: an id, name, queue or priority that can't be.
        ValueError: a time that can't be.
    """

    batch_id: str | None
    name: str | None
    queue: str | None
    priority: Priority
    window_s: float
    keep_s: float

    def __post_init__(self) -> None:
        if self.batch_id is not None:
            checked_id(self.batch_id)
        if self.name is not None:
            checked_name(self.name)
        if self.priority not in PRIORITIES:
            raise BadName(f"priority: got {self.priority!r}, allowed are {', '.join(PRIORITIES)}")
        _check_seconds("window", self.window_s, at_least=0.001)
        _check_seconds("keep", self.keep_s, at_least=0)

    def fields(self, file: BatchFile) -> dict[str, str | int]:
        """What the record of a new batch holds from the beginning."""
        name = self.name if self.name is not None else file.name[:MAX_NAME]
        found: dict[str, str | int] = {"queue": self.queue_for(file).queue, "name": name, "endpoint": file.endpoint}
        return found | {"digest": file.digest, "priority": self.priority, "total": file.total}

    def queue_for(self, file: BatchFile) -> QueueKeys:
        return QueueKeys(self.queue if self.queue is not None else QUEUE_OF[file.endpoint])


def _check_seconds(name: str, given: float, *, at_least: float) -> None:
    if not at_least <= given <= LONGEST_S:  # false for NaN too
        raise ValueError(f"{name}: got {given:g} s, allowed are {at_least:g} to {LONGEST_S:g}")
