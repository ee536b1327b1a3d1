"""Answers that are kept for jobs that ask the same."""

from __future__ import annotations

from pydantic import BaseModel, Field

from .units import HOUR_MS


class CacheSettings(BaseModel):
    """The cache."""

    cache_enabled: bool = True
    """Whether jobs that ask for it (`cache`) may be answered by an earlier answer. `false`: a model is always asked"""
    cache_ttl: int = Field(default=HOUR_MS, ge=1_000, le=30 * 24 * HOUR_MS)
    """How long an answer is kept for others"""
    cache_max_value_bytes: int = Field(default=262_144, ge=1_024, le=64 * 1_048_576)
    """A larger answer isn't kept. Of embeddings each vector is one, of 8 bytes a number"""
    cache_shared: bool = False
    """Whether one tenant's jobs may be answered by another's answers. How fast an answer comes then tells whether
    somebody has asked the same"""
