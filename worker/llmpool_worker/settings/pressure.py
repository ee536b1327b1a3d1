"""How this worker holds itself back: fewer retries while all fails, less at once while the server is busy."""

from __future__ import annotations

from pydantic import BaseModel, Field

from .units import HOUR_MS


class PressureSettings(BaseModel):
    """Retry budget and saturation gate."""

    retry_budget: float = Field(default=0.2, ge=0, le=1)
    """Retries per job, over a minute. Beyond, a retry waits for its turn, at no further cost of an attempt"""
    retry_budget_floor: float = Field(default=0.1, ge=0, le=1_000)
    """[retries/s] Retries that are free, so that a worker with little to do retries too"""
    saturation_slot_wait: int | None = Field(default=None, ge=1, le=HOUR_MS)
    """A model server in which requests wait longer than this for a slot is busy with others too: fewer jobs run at
    once (at least one) until it is calm again. Unset: not looked at"""
    saturation_first_token: int | None = Field(default=None, ge=1, le=HOUR_MS)
    """[ms] The same for the time to the first token"""
    saturation_waiting: int | None = Field(default=None, ge=0, le=1_000_000)
    """[requests] The same for the requests that wait in the server, as the metrics of vLLM and llama.cpp tell"""
