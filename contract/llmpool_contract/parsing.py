"""From a producer's bytes to a :class:`Job`, or to a :class:`BadJob` that says why not."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .job import Job

JOB_MAX_BYTES = 1_048_576
"""Default bound on a job's JSON, bytes. Checked before anything is parsed."""
MAX_DEPTH = 64
"""Nesting of free-form parts (``format``, ``tools``, ``metadata``), levels."""


class BadJob(ValueError):
    """A job that can never run. ``reason`` names the field, what was given and what is allowed, never the prompt."""

    def __init__(self, code: str, reason: str, job_id: str | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.job_id = job_id
        """The job's id where it could be read: the waiter gets a failed result."""


def parse_job(body: bytes, *, max_bytes: int = JOB_MAX_BYTES) -> Job:
    """Read a producer's bytes.

    Strict where Python's json is not: NaN and infinities, numbers beyond a float, duplicate keys and lone surrogates
    are refused, and so is nesting beyond the parser's or :data:`MAX_DEPTH`. Memory is bounded by ``max_bytes``.

    Raises:
        BadJob: with a code (``too_large``, ``not_json``, ``invalid``), a reason, and the id where it can be read.
    """
    if len(body) > max_bytes:
        raise BadJob("too_large", f"job: {len(body)} bytes, allowed are {max_bytes} (JOB_MAX_BYTES)")
    value = strict_json(body)
    if not isinstance(value, dict):
        raise BadJob("not_json", f"job: wanted a JSON object, got {_json_type(value)}")
    job_id = _readable_id(value)
    try:
        _check_depth(value)
        return Job.model_validate(value)
    except ValidationError as error:
        raise BadJob("invalid", _first_faults(error), job_id) from None
    except BadJob as error:
        error.job_id = job_id
        raise


def strict_json(body: bytes) -> Any:
    """One JSON value, as :func:`parse_job` reads it before it looks at the fields.

    Raises:
        BadJob: ``not_json``.
    """
    try:
        text = body.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant, parse_float=_finite_float
        )
    except BadJob:
        raise
    except UnicodeDecodeError:
        raise BadJob("not_json", "job: not UTF-8") from None
    except RecursionError:
        raise BadJob("not_json", "job: nested too deeply") from None
    except json.JSONDecodeError as error:
        raise BadJob("not_json", f"job: not JSON: {error.msg} at character {error.pos}") from None
    except ValueError:  # an integer longer than Python converts (sys.int_info.default_max_str_digits)
        raise BadJob("not_json", "job: a number has too many digits") from None
    # Only an escape can smuggle a lone surrogate past the UTF-8 decoder, so only then is the look worth its time.
    if _SURROGATE_ESCAPE.search(text) and _has_lone_surrogate(value):
        raise BadJob("not_json", "job: a string has a lone surrogate", _readable_id(value))
    return value


_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise BadJob("not_json", f"job: key {_shown(twice)} is there twice")
    return found


def _refuse_constant(name: str) -> None:
    raise BadJob("not_json", f"job: {name} is not a JSON number")


def _finite_float(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise BadJob("not_json", "job: a number is too large")
    return number


def _has_lone_surrogate(value: Any) -> bool:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            try:
                item.encode("utf-8")
            except UnicodeEncodeError:
                return True
        elif isinstance(item, dict):
            stack.extend(item.keys())
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
    return False


def _check_depth(value: dict[str, Any]) -> None:
    """Refuse nesting that json can still parse but that later readers (ours and Ollama's) may not.

    Costs one look per container; jobs without free-form parts have a handful.
    """
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise BadJob("invalid", f"job: nested more than {MAX_DEPTH} levels deep")


_ID = re.compile(r"[^\x00-\x20\x7f]{1,200}")


def _readable_id(value: Any) -> str | None:
    """The id of a job that may be bad in every other way."""
    found = value.get("id") if isinstance(value, dict) else None
    if not (isinstance(found, str) and _ID.fullmatch(found)):
        return None
    try:
        found.encode("utf-8")
    except UnicodeEncodeError:
        return None
    return found


def _first_faults(error: ValidationError, most: int = 3) -> str:
    """Pydantic's findings as one line, without the input: it may be a prompt."""
    faults = error.errors(include_url=False, include_context=False)
    lines = []
    for fault in faults[:most]:
        where = ".".join(str(part) if isinstance(part, int) else _shown(part) for part in fault["loc"])
        message = _message(fault)
        lines.append(f"{where}: {message}" if where else message)
    if len(faults) > most:
        lines.append(f"and {len(faults) - most} more")
    return "; ".join(lines)


def _message(fault: ErrorDetails) -> str:
    """What is wrong and what kind of value was given, never the value: it may be a prompt."""
    if fault["type"] == "extra_forbidden":
        return "unknown field"
    if fault["type"] == "missing":
        return "missing"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error":
        return message
    return f"{message[0].lower()}{message[1:]}, got {_json_type(fault['input'])}"


def _shown(key: str, most: int = 64) -> str:
    """A key a stranger chose, safe to print."""
    safe = key.encode("unicode_escape").decode("ascii")
    return safe if len(safe) <= most else safe[:most] + "..."


def _json_type(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
    return "an object"
