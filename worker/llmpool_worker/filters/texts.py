"""Every text of a job or an answer that rules look at, and how another takes its place. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmpool_contract import Job, Message

Change = Callable[[str], str]

TEXT_FIELDS = ("messages", "prompt", "system", "input", "tools", "format")
"""What of a job reaches the model as text. ``format`` as an object: a schema has descriptions."""
LONG_NUMBER = 1_000_000
"""From here on a whole number may be a phone's or a card's, so it is looked at as text."""


def changed_job(job: Job, change: Change) -> Job:
    """The job with ``change`` applied to each of its texts; the same object if that changes nothing."""
    given = {name: getattr(job, name) for name in TEXT_FIELDS}
    made = {name: changed(value, change) for name, value in given.items() if value is not None and value != "json"}
    differing = {name: value for name, value in made.items() if value != given[name]}
    return job.model_copy(update=differing) if differing else job


def changed(value: Any, change: Change) -> Any:
    """A JSON value with ``change`` applied to every string in it but keys. A long whole number that it changes becomes
    a string."""
    match value:
        case str():
            return change(value) if value else value
        case bool():
            return value
        case int() if abs(value) >= LONG_NUMBER:
            text = str(value)
            return value if (made := change(text)) == text else made
        case list():
            return [changed(item, change) for item in value]
        case dict():
            return {key: changed(item, change) for key, item in value.items()}
        case Message():
            return _changed_message(value, change)
    return value


def _changed_message(message: Message, change: Change) -> Message:
    given = {"content": message.content, "thinking": message.thinking, "tool_calls": message.tool_calls}
    return message.model_copy(update={name: changed(value, change) for name, value in given.items()})


class Collected:
    """Texts taken out in order, to be asked about together, and put back in the same order."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def take(self, text: str) -> str:
        """A change that changes nothing and remembers."""
        if text.strip():
            self.texts.append(text)
        return text

    def put_back(self, others: list[str]) -> Change:
        """A change that gives ``others`` in place of the texts taken."""
        left = iter(others)
        return lambda text: next(left) if text.strip() else text
