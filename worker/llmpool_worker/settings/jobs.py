"""Bounds on jobs and on what they leave in Redis."""

from __future__ import annotations

from pydantic import BaseModel, Field

from .units import HOUR_MS


class JobSettings(BaseModel):
    """Bounds of jobs, results and dead letters."""

    job_max_bytes: int = Field(default=1_048_576, ge=1_024, le=64 * 1_048_576)
    """A longer job is never read: a dead letter, `too_large`"""
    output_max_bytes: int = Field(default=4 * 1_048_576, ge=1_024, le=256 * 1_048_576)
    """A longer answer fails its job: `output_too_large`"""
    result_ttl: int = Field(default=24 * HOUR_MS, ge=1_000, le=30 * 24 * HOUR_MS)
    """How long a result is kept, and with it its id"""
    stream_ttl: int = Field(default=HOUR_MS, ge=1_000, le=30 * 24 * HOUR_MS)
    """How long a stream is kept after its last piece, while it has no end yet"""
    dead_max_entries: int = Field(default=10_000, ge=1, le=10_000_000)
    """[entries] Dead letters of a queue; beyond, the oldest are evicted and counted"""
    dead_max_bytes: int = Field(default=64 * 1_048_576, ge=1_024, le=2**40)
    """The same for their bodies and reasons together"""
