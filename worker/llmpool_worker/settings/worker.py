"""Who this worker is, what it takes, and how much of it."""

from __future__ import annotations

import socket
from typing import Self

from pydantic import BaseModel, Field, field_validator, model_validator

from llmpool_contract import BadName, JobType, PoolKeys, QueueKeys, env

from .units import HOUR_MS

_D = env.DEFAULTS


class WorkerSettings(BaseModel):
    """The worker itself."""

    worker_pool: str = str(_D[env.WORKER_POOL])
    """The pool that this worker reports to, `namespace/name`"""
    worker_id: str = Field(default_factory=socket.gethostname, pattern=r"^[A-Za-z0-9._:-]{1,128}$")
    """1 to 128 letters, digits, `.`, `_`, `:` and `-`; unique within the pool"""
    worker_queues: str = str(_D[env.WORKER_QUEUES])
    """Comma-separated, `name` or `name=type`. With a type (`chat`, `generate`, `embed`) jobs of another type are
    refused there"""
    worker_concurrency: int = Field(default=int(_D[env.WORKER_CONCURRENCY]), ge=1, le=1_024)
    """[jobs] Jobs that run at the same time"""
    worker_batch_size: int = Field(default=int(_D[env.WORKER_BATCH_SIZE]), ge=1, le=2_048)
    """[inputs] Inputs of one embedding call. Embed jobs share calls; one with more inputs makes several"""
    worker_timeout: int = Field(default=int(_D[env.WORKER_TIMEOUT]), ge=1_000, le=24 * HOUR_MS)
    """The most that one attempt may take, from its claim. A job that runs into it fails for good"""
    worker_lease: int = Field(default=int(_D[env.WORKER_LEASE]), ge=1_000, le=HOUR_MS)
    """How long a claim outlives a silent worker. Renewed every third of it"""
    worker_drain: int = Field(default=int(_D[env.WORKER_DRAIN]), ge=0, le=24 * HOUR_MS)
    """What a stopping worker gets to finish what it runs. Refused below `WORKER_TIMEOUT`"""
    max_deliveries: int = Field(default=3, ge=1, le=100)
    """[claims] Claims that may end with the death of their worker; then the job is a dead letter, `poison`"""

    @field_validator("worker_pool")
    @classmethod
    def _pool(cls, value: str) -> str:
        PoolKeys(value)
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
