"""What is wrong with a document, one sentence per fault: field path, what was given, what is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

MOST_FAULTS = 20
_SHOWN = 60
_UNSHOWN_FIELDS = frozenset({"url", "value"})
"""Where somebody may have put a password: these inputs are never repeated."""


def faults_of(error: ValidationError, model: type[BaseModel]) -> tuple[str, ...]:
    """All faults that ``error`` lists for a document of type ``model``, at most :data:`MOST_FAULTS`."""
    details = error.errors(include_url=False, include_context=True)
    found = [_sentence(detail, model) for detail in details[:MOST_FAULTS]]
    if len(details) > MOST_FAULTS:
        found.append(f"and {len(details) - MOST_FAULTS} more")
    return tuple(found)


def _sentence(detail: Any, model: type[BaseModel]) -> str:
    location: tuple[int | str, ...] = detail["loc"]
    path = _path(location)
    match detail["type"]:
        case "extra_forbidden":
            known = _fields_at(model, location[:-1])
            return f"{path}: unknown field, allowed here are {', '.join(known)}" if known else f"{path}: unknown field"
        case "missing":
            return f"{path}: missing"
        case "value_error":  # one of our own validators: it has said all there is to say
            return f"{path}: {detail['msg'].removeprefix('Value error, ')}"
        case "string_pattern_mismatch":
            wanted = f"should match {detail['ctx']['pattern']}"
        case _:
            wanted = detail["msg"].removeprefix("Input ").removeprefix("List ")
    return f"{path}: got {_given(detail['input'], location)}, {wanted}"


def _path(location: Sequence[int | str]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".") or "document"


def _given(value: Any, location: Sequence[int | str]) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, str) and location and location[-1] in _UNSHOWN_FIELDS:
        return "a text"
    text = str(value) if isinstance(value, Decimal) else ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


def _fields_at(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The field names of the part of ``model`` that a location leads to. Empty: it leads to no model."""
    part: type[BaseModel] | None = model
    for step in location:
        if isinstance(step, int) or part is None:
            continue
        field = next((f for name, f in part.model_fields.items() if step in (name, f.alias)), None)
        part = _model_in(field.annotation) if field is not None else None
    return [field.alias or name for name, field in part.model_fields.items()] if part is not None else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside ``M``, ``M | None`` or ``list[M]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _model_in(arg)) is not None), None)
