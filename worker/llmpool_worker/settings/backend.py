"""The model server, and what its failures cost."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator

from llmpool_contract import env

from .units import HOUR_MS

_D = env.DEFAULTS


class BackendSettings(BaseModel):
    """The model server."""

    backend: Literal["ollama", "openai", "echo"] = "ollama"
    """`ollama`, `openai` (any server with `/v1`) or `echo` (no model: answers with the question)"""
    echo_token_delay: int = Field(default=0, ge=0, le=60_000)
    """Between two words of `echo`, for a trial that looks like a model"""
    ollama_base_url: str = Field(default=str(_D[env.OLLAMA_BASE_URL]), pattern=r"^https?://[^\s/@]+(/\S*)?$")
    """The model server of either kind, without `/v1` and without user or password"""
    ollama_timeout: int = Field(default=int(_D[env.OLLAMA_TIMEOUT]), ge=1_000, le=24 * HOUR_MS)
    """One request, and the wait for its first token, which may hold a model's load. What it leaves unanswered is
    retried"""
    ollama_connect_timeout: int = Field(default=5_000, ge=100, le=60_000)
    """One connection. A server that can't be reached costs no attempt"""
    ollama_stall_timeout: int = Field(default=30_000, ge=100, le=HOUR_MS)
    """Between two pieces of an answer that has begun"""
    ollama_max_retries: int = Field(default=int(_D[env.OLLAMA_MAX_RETRIES]), ge=0, le=100)
    """[attempts] Attempts after the first one"""
    ollama_num_predict: int = Field(default=4_096, ge=0, le=1_000_000)
    """[tokens] The most that an answer of Ollama may have whose job sets no `num_predict`. 0: Ollama's own limit, ten
    times the context"""
    retry_backoff: int = Field(default=500, ge=1, le=HOUR_MS)
    """Upper end of the first retry's wait; doubles with each, jittered over its whole range"""
    retry_backoff_max: int = Field(default=30_000, ge=1, le=24 * HOUR_MS)
    """Upper end of any retry's wait"""

    @field_validator("backend", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("ollama_base_url")
    @classmethod
    def _without_v1(cls, value: str) -> str:
        if value.rstrip("/").endswith(("/v1", "/api")):
            raise ValueError("leave /v1 or /api out: it is the server's root")
        return value
