"""How embed jobs share calls."""

from __future__ import annotations

from pydantic import BaseModel, Field


class EmbeddingSettings(BaseModel):
    """Calls that embed jobs share."""

    embed_gather_wait: int = Field(default=5, ge=0, le=1_000)
    """The most that an embedding call waits to be filled up to `WORKER_BATCH_SIZE`, while other embed jobs are about to
    ask. 0: whatever is there goes at once"""
