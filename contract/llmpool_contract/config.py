"""What a pool's owner tells its workers: the hash at ``{pool:NS/NAME}:config``."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

DRAIN_PREFIX = "drain:"
"""Field ``drain:<worker>``: this worker is asked to drain until then, Unix ms by Redis' clock. A lease: it lapses with
its owner, and the worker goes on."""


class PoolConfig(BaseModel):
    """The hash as a value. Fields that aren't there have their defaults; unknown ones are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    version: int = Field(default=0, ge=0)
    """Counts the changes."""
    owner: str = ""
    """The pool's uid: a hash of another uid belongs to another cluster's pool and is left alone."""
    transition: int = Field(default=0, ge=0)
    """Of the leader's lease: an older leader's writes are refused."""
    renewed_ms: int = Field(default=0, ge=0)
    """When the owner last wrote, Unix ms by Redis' clock: it does so every two minutes, changed or not."""
    preload: tuple[str, ...] = ()
    """Models that each worker should hold."""
    drains: dict[str, int] = {}
    """Worker -> end of its drain lease, Unix ms."""

    def to_hash(self) -> dict[str, str]:
        """The fields as Redis holds them."""
        plain = {
            "version": str(self.version),
            "owner": self.owner,
            "transition": str(self.transition),
            "renewed_ms": str(self.renewed_ms),
            "preload": ",".join(self.preload),
        }
        return plain | {f"{DRAIN_PREFIX}{worker}": str(until) for worker, until in self.drains.items()}

    @classmethod
    def from_hash(cls, fields: Mapping[str, str]) -> PoolConfig:
        """Read what HGETALL answers, decoded. Raises ValidationError, which names the field."""
        drains = {
            name.removeprefix(DRAIN_PREFIX): value for name, value in fields.items() if name.startswith(DRAIN_PREFIX)
        }
        preload = tuple(name for name in fields.get("preload", "").split(",") if name)
        return cls.model_validate({**fields, "preload": preload, "drains": drains})
