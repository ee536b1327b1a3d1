"""What a worker can be told, all by environment variables, checked once at the start.

Durations are milliseconds, as the first users' documents have them. Names and defaults are the contract's
(``llmpool_contract.env``); what only the worker knows is here alone.
"""

from __future__ import annotations

import socket
from typing import Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from redis.asyncio.connection import parse_url

from llmpool_contract import BadName, JobType, PoolKeys, QueueKeys, env

_D = env.DEFAULTS
_HOUR_MS = 3_600_000


class SettingsError(ValueError):
    """The environment can't be run with: each line names a variable, what was given and what is allowed."""


class Settings(BaseSettings):
    """One worker's settings. Field names are the environment variables in lower case."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True)

    redis_url: SecretStr = Field(default=SecretStr(str(_D[env.REDIS_URL])))
    """redis://, rediss:// or unix://. May hold a password, so it is never printed."""
    redis_username: str | None = None
    redis_password: SecretStr | None = None
    """Beside REDIS_URL, for a password that comes from a Kubernetes Secret."""

    worker_pool: str = str(_D[env.WORKER_POOL])
    worker_id: str = Field(default_factory=socket.gethostname, pattern=r"^[A-Za-z0-9._:-]{1,128}$")
    """Defaults to the host's name, so that several workers of one compose service need nothing."""
    worker_queues: str = str(_D[env.WORKER_QUEUES])
    """Comma-separated, ``name`` or ``name=type``; with a type (chat, generate, embed) other jobs are refused there."""
    worker_concurrency: int = Field(default=int(_D[env.WORKER_CONCURRENCY]), ge=1, le=1_024)
    worker_batch_size: int = Field(default=int(_D[env.WORKER_BATCH_SIZE]), ge=1, le=2_048)
    """Inputs of one embedding call to the model server."""
    worker_timeout: int = Field(default=int(_D[env.WORKER_TIMEOUT]), ge=1_000, le=24 * _HOUR_MS)
    """One attempt at a job, ms."""
    worker_lease: int = Field(default=int(_D[env.WORKER_LEASE]), ge=1_000, le=_HOUR_MS)
    """How long a claim outlives a silent worker, ms. Renewed every third of it."""
    worker_drain: int = Field(default=int(_D[env.WORKER_DRAIN]), ge=0, le=24 * _HOUR_MS)
    """How long a stopping worker may finish what it has, ms. At least WORKER_TIMEOUT."""
    max_deliveries: int = Field(default=3, ge=1, le=100)
    """Claims that may end with the death of their worker before the job is taken for its killer."""

    backend: Literal["ollama", "openai", "echo"] = "ollama"
    echo_token_delay: int = Field(default=0, ge=0, le=60_000)
    """Between two words of the echo backend, ms: a trial that looks like a model."""
    ollama_base_url: str = Field(default=str(_D[env.OLLAMA_BASE_URL]), pattern=r"^https?://[^\s/@]+(/\S*)?$")
    ollama_timeout: int = Field(default=int(_D[env.OLLAMA_TIMEOUT]), ge=1_000, le=24 * _HOUR_MS)
    """One request, ms; also the wait for its first token, which may hold a model's load."""
    ollama_connect_timeout: int = Field(default=5_000, ge=100, le=60_000)
    ollama_stall_timeout: int = Field(default=30_000, ge=100, le=_HOUR_MS)
    """Between two pieces of an answer that has begun, ms."""
    ollama_max_retries: int = Field(default=int(_D[env.OLLAMA_MAX_RETRIES]), ge=0, le=100)
    """Attempts after the first one."""
    retry_backoff: int = Field(default=500, ge=1, le=_HOUR_MS)
    """Upper end of the first retry's wait, ms; doubles with each attempt, jittered over its whole range."""
    retry_backoff_max: int = Field(default=30_000, ge=1, le=24 * _HOUR_MS)

    job_max_bytes: int = Field(default=1_048_576, ge=1_024, le=64 * 1_048_576)
    output_max_bytes: int = Field(default=4 * 1_048_576, ge=1_024, le=256 * 1_048_576)
    result_ttl: int = Field(default=24 * _HOUR_MS, ge=1_000, le=30 * 24 * _HOUR_MS)
    stream_ttl: int = Field(default=_HOUR_MS, ge=1_000, le=30 * 24 * _HOUR_MS)
    dead_max_entries: int = Field(default=10_000, ge=1, le=10_000_000)
    dead_max_bytes: int = Field(default=64 * 1_048_576, ge=1_024, le=2**40)

    health_host: str = str(_D[env.HEALTH_HOST])
    health_port: int = Field(default=int(_D[env.HEALTH_PORT]), ge=0, le=65_535)
    """0: any free port."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("log_level", "backend", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("ollama_base_url")
    @classmethod
    def _without_v1(cls, value: str) -> str:
        if value.rstrip("/").endswith(("/v1", "/api")):
            raise ValueError("leave /v1 or /api out: it is the server's root")
        return value

    @field_validator("worker_pool")
    @classmethod
    def _pool(cls, value: str) -> str:
        PoolKeys(value)
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis_url(cls, value: SecretStr) -> SecretStr:
        check_redis_url(value.get_secret_value())
        return value

    @field_validator("worker_queues")
    @classmethod
    def _queues(cls, value: str) -> str:
        read_queues(value)
        return value

    @model_validator(mode="after")
    def _drain_outlasts_a_job(self) -> Self:
        if self.worker_drain < self.worker_timeout:
            raise ValueError(
                f"WORKER_DRAIN: got {self.worker_drain} ms, wanted at least WORKER_TIMEOUT ({self.worker_timeout} ms), "
                "or a stop would cut jobs that are within their time"
            )
        return self

    @property
    def queues(self) -> dict[QueueKeys, JobType | None]:
        """The queues to take from, in order, with the only type of job each one takes, None: any."""
        return read_queues(self.worker_queues)


_REDIS_OPTIONS = frozenset({"ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
"""Of those that a URL can carry: the worker's own settings decide all others, and a password has no place there."""


def check_redis_url(url: str) -> None:
    """Raises ValueError with a reason that repeats nothing of the address."""
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("wanted redis://, rediss:// or unix:// at the beginning")
    try:
        parts = urlsplit(url)
        given = parse_qs(parts.query, keep_blank_values=True).keys() - {"db"}
        port = parts.port
    except ValueError:
        raise ValueError("not an address: encode special characters of a password (%2F for /)") from None
    if parts.scheme != "unix" and (not parts.hostname or port == 0):
        raise ValueError("no host in it")
    if unknown := sorted(given - _REDIS_OPTIONS):
        raise ValueError(f"option {', '.join(unknown)}: allowed are db, {', '.join(sorted(_REDIS_OPTIONS))}")
    try:
        parse_url(url)
    except ValueError:
        raise ValueError("an option has a value that can't be used") from None


def read_queues(text: str) -> dict[QueueKeys, JobType | None]:
    """Read WORKER_QUEUES. Raises BadName (a ValueError) that names the part at fault."""
    found: dict[QueueKeys, JobType | None] = {}
    for part in (p.strip() for p in text.split(",")):
        name, equals, kind = part.partition("=")
        keys = QueueKeys(name)
        if keys in found:
            raise BadName(f"queue {name!r} is there twice")
        found[keys] = _job_type(part, kind) if equals else None
    return found


def _job_type(part: str, kind: str) -> JobType:
    match kind:
        case "chat" | "generate" | "embed":
            return kind
    raise BadName(f"queue {part!r}: got type {kind!r}, allowed are chat, generate and embed")


def load(values: dict[str, Any] | None = None) -> Settings:
    """Settings from the environment, ``values`` before it. Raises SettingsError with every fault in it."""
    try:
        return Settings(**(values or {}))
    except ValidationError as error:
        raise SettingsError("\n".join(_fault(f) for f in error.errors(include_url=False))) from None


_NEVER_SHOWN = {"redis_url", "redis_password", "ollama_base_url"}
"""May hold a password."""


def _fault(fault: Any) -> str:
    message = str(fault["msg"]).removeprefix("Value error, ")
    if not fault["loc"]:
        return message
    name = str(fault["loc"][0])
    shown = "a value that isn't shown" if name in _NEVER_SHOWN else repr(fault["input"])
    return f"{name.upper()}: got {shown}: {message}"
