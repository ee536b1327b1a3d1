"""What a worker shows of itself: health, metrics, logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator

from llmpool_contract import env

_D = env.DEFAULTS


class ServingSettings(BaseModel):
    """Health server and logs."""

    health_host: str = str(_D[env.HEALTH_HOST])
    """Where the health server listens"""
    health_port: int = Field(default=int(_D[env.HEALTH_PORT]), ge=0, le=65_535)
    """0: any free port, which the log names"""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """`debug`, `info`, `warning` or `error`, in any case. JSON lines on stderr, plain ones on a terminal"""
    log_dir: Path | None = None
    """Folder for a file with the same lines, `WORKER_ID.log`: new after 10 MB, with three older ones kept"""

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower_level(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value
