"""Small looks at a parsed JSON value, with errors that name the body's field and never repeat a text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from llmpool_contract import BadJob


def refused(field: str, value: Any, allowed: str) -> BadJob:
    """The error for one field of a body: what kind of value it had, and what is allowed."""
    return BadJob("invalid", f"body.{field}: got {kind_of(value)}, {allowed}")


def kind_of(value: Any) -> str:
    """A value as an error may show it: numbers and truth values as they are, of the rest only the kind."""
    match value:
        case None:
            return "nothing"
        case bool() | int() | float():
            return json.dumps(value)[:40]
        case str():
            return "a text"
        case list():
            return f"an array of {len(value)}"
    return "an object"


def stray_field(where: str, names: Iterable[Any]) -> BadJob:
    """The error for fields that nothing in a job stands for; the first of them by name."""
    first = ascii(min(map(str, names)))[1:-1]
    return BadJob("invalid", f"body.{where}{first[:64]}: nothing in a job stands for this field")


def same(one: Any, other: Any) -> bool:
    """Equality as JSON has it: ``true`` isn't 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def listed(values: Iterable[Any]) -> str:
    """Allowed values as JSON."""
    return ", ".join(json.dumps(value) for value in values)


def text_at(given: Mapping[str, Any], field: str) -> str:
    """A field that must be there and be a text."""
    value = given.get(field)
    if not isinstance(value, str):
        raise refused(field, value, "wanted a text")
    return value
