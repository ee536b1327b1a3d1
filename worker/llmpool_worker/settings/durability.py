"""What a result is to survive."""

from __future__ import annotations

from pydantic import BaseModel, Field, field_validator

from llmpool_worker.durability import Wanted


class DurabilitySettings(BaseModel):
    """Durability of results."""

    result_durability: str = "none"
    """What is asked of Redis when it has a result: `none`, `aof` (it is on disk: Redis 7.2 with `appendonly`) or
    `replica:N` (N replicas have it). Where that isn't confirmed in time the result stays, and it is counted and logged.
    Not for Redis Cluster"""
    result_durability_timeout: int = Field(default=2_000, ge=1, le=60_000)
    """How long a confirmation may take. With `appendfsync everysec` it takes up to a second"""

    @field_validator("result_durability")
    @classmethod
    def _durability(cls, value: str) -> str:
        Wanted.parse(value)
        return value
