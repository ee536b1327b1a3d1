"""A job as clients write it. The only way into one is ``parsing.py``."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

MAX_MESSAGES = 1_000
MAX_INPUTS = 2_048

JobType = Literal["chat", "generate", "embed"]
ThinkLevel = Literal["low", "medium", "high", "max"]

JobId = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x20\x7f]+$")]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$")]


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
