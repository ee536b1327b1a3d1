"""A job as clients write it, and the only way into it: bytes -> :class:`Job` or :class:`BadJob`."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import ErrorDetails

JOB_MAX_BYTES = 1_048_576
"""Default bound on a job's JSON, bytes. Checked before anything is parsed."""
MAX_MESSAGES = 1_000
MAX_INPUTS = 2_048
MAX_DEPTH = 64
"""Nesting of free-form parts (``format``, ``tools``, ``metadata``), levels."""

JobType = Literal["chat", "generate", "embed"]
ThinkLevel = Literal["low", "medium", "high", "max"]

JobId = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x20\x7f]+$")]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$")]


class BadJob(ValueError):
    """A job that can never run. ``reason`` names the field, what was given and what is allowed, never the prompt."""

    def __init__(self, code: str, reason: str, job_id: str | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.job_id = job_id
        """The job's id where it could be read: the waiter gets a failed result."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


class Message(_Part):
    """One turn of a chat."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    thinking: str | None = None
    images: list[str] | None = Field(default=None, max_length=16)
    """Base64, without a data: prefix."""
    tool_calls: list[dict[str, Any]] | None = Field(default=None, max_length=128)
    tool_name: str | None = None
    tool_call_id: str | None = None


class Options(_Part):
    """Sampling options that a job may set. Runner options (``num_ctx``, ...) would reload the model: refused."""

    temperature: float | None = Field(default=None, ge=0, le=10)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0, le=1_000_000)
    min_p: float | None = Field(default=None, ge=0, le=1)
    typical_p: float | None = Field(default=None, ge=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    num_predict: int | None = Field(default=None, ge=1, le=1_000_000)
    repeat_last_n: int | None = Field(default=None, ge=-1, le=1_000_000)
    repeat_penalty: float | None = Field(default=None, ge=0, le=100)
    presence_penalty: float | None = Field(default=None, ge=-10, le=10)
    frequency_penalty: float | None = Field(default=None, ge=-10, le=10)
    stop: list[str] | None = Field(default=None, max_length=64)


class Job(_Part):
    """One chat, generate or embed request. Unknown fields are refused, none is converted."""

    id: JobId | None = None
    """The client's; absent: the worker makes one."""
    type: JobType
    model: ModelName
    messages: list[Message] | None = Field(default=None, max_length=MAX_MESSAGES)
    prompt: str | None = None
    system: str | None = None
    input: str | list[str] | None = None
    options: Options | None = None
    format: Literal["json"] | dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = Field(default=None, max_length=128)
    think: bool | ThinkLevel | None = None
    images: list[str] | None = Field(default=None, max_length=16)
    stream: bool = False
    """Whether the text is also written to ``{q}:stream:<id>`` as it comes."""
    deadline: int | None = Field(default=None, ge=0, le=2**53)
    """Unix ms by Redis' clock after which nobody wants the answer any more."""
    timeout_ms: int | None = Field(default=None, ge=1, le=86_400_000)
    """From the claim. Only ever lowers WORKER_TIMEOUT."""
    enqueued_at: float | None = Field(default=None, ge=0)
    """Unix seconds by the producer's clock: for its own book-keeping and for wait times, never for a decision."""
    fallback_models: list[ModelName] | None = Field(default=None, max_length=8)
    tenant: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None
    reply_to: Annotated[str, StringConstraints(max_length=512)] | None = None
    cache: bool = False
    traceparent: Annotated[str, StringConstraints(max_length=128)] | None = None
    metadata: dict[str, Any] | None = None
    """Handed back in the result, unread."""

    @model_validator(mode="after")
    def _has_what_its_type_needs(self) -> Self:
        given = {name for name in _INPUT_FIELDS if getattr(self, name) is not None}
        allowed = _INPUTS_OF[self.type]
        if stray := sorted(given - allowed):
            raise ValueError(f"{', '.join(stray)}: not for a {self.type} job, which takes {', '.join(sorted(allowed))}")
        if problem := _missing_input(self):
            raise ValueError(problem)
        return self


_INPUT_FIELDS = ("messages", "prompt", "system", "input", "format", "tools", "think", "images")
_INPUTS_OF: dict[str, frozenset[str]] = {
    "chat": frozenset({"messages", "format", "tools", "think"}),
    "generate": frozenset({"prompt", "system", "format", "think", "images"}),
    "embed": frozenset({"input"}),
}


def _missing_input(job: Job) -> str | None:
    """Why there is nothing to ask the model, or None. An empty prompt is Ollama's load or unload command: refused."""
    match job.type:
        case "chat":
            if not job.messages:
                return "messages: a chat job needs at least one"
            if not any(m.content.strip() or m.images or m.tool_calls for m in job.messages):
                return "messages: all are empty"
        case "generate":
            if not (job.prompt and job.prompt.strip()):
                return "prompt: a generate job needs a text that isn't empty"
        case "embed":
            return _bad_inputs(job.input)
    return None


def _bad_inputs(given: str | list[str] | None) -> str | None:
    texts = [given] if isinstance(given, str) else given
    if not texts:
        return "input: an embed job needs a text or a list of texts"
    if len(texts) > MAX_INPUTS:
        return f"input: got {len(texts)} texts, allowed are {MAX_INPUTS}"
    if any(not text.strip() for text in texts):
        return "input: one text is empty"
    return None


def parse_job(body: bytes, *, max_bytes: int = JOB_MAX_BYTES) -> Job:
    """Read a producer's bytes.

    Strict where Python's json is not: NaN and infinities, numbers beyond a float, duplicate keys and lone surrogates
    are refused, and so is nesting beyond the parser's or :data:`MAX_DEPTH`. Memory is bounded by ``max_bytes``.

    Raises:
        BadJob: with a code (``too_large``, ``not_json``, ``invalid``), a reason, and the id where it can be read.
    """
    if len(body) > max_bytes:
        raise BadJob("too_large", f"job: {len(body)} bytes, allowed are {max_bytes} (JOB_MAX_BYTES)")
    value = _parse_json(body)
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


def _parse_json(body: bytes) -> Any:
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
