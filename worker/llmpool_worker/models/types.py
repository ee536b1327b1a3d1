"""What workers that share a model server tell each other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a model can't be loaded for now."""

    code: str
    reason: str
    until: float
    """When it is tried again, Unix seconds by Redis' clock."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The leader's word: which models are open. Kept in Redis, so that the next leader goes on from it."""

    epoch: int = 0
    away: bool = False
    """The server can't be read: nobody knows what it holds, and a job now and then asks whether it is back."""
    opened: frozenset[str] = frozenset()
    resident: frozenset[str] = frozenset()
    ours: frozenset[str] = frozenset()
    target: str | None = None
    doing: str = ""
    """In words, for people: ``loading m``."""
    trouble: Mapping[str, Trouble] = field(default_factory=dict)
    without_room: frozenset[str] = frozenset()
    """Models of a preload list that don't fit beside its others."""

    def to_fields(self) -> dict[str, str]:
        """As Redis holds it, but for the epoch."""
        return {
            "away": str(int(self.away)),
            "opened": json.dumps(sorted(self.opened)),
            "resident": json.dumps(sorted(self.resident)),
            "ours": json.dumps(sorted(self.ours)),
            "target": self.target or "",
            "doing": self.doing,
            "without_room": json.dumps(sorted(self.without_room)),
            "trouble": json.dumps({m: [t.code, t.reason, t.until] for m, t in self.trouble.items()}),
        }

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> Plan:
        """The inverse. A hash without a plan, or with one of another version, is that of a server nobody has read."""
        try:
            return cls._read(fields)
        except (ValueError, TypeError, AttributeError):
            epoch = fields.get("epoch", "0")
            return cls(epoch=int(epoch) if epoch.isdecimal() else 0)

    @classmethod
    def _read(cls, fields: Mapping[str, str]) -> Plan:
        return cls(
            epoch=int(fields.get("epoch", 0)),
            away=fields.get("away") == "1",
            opened=frozenset(json.loads(fields.get("opened", "[]"))),
            resident=frozenset(json.loads(fields.get("resident", "[]"))),
            ours=frozenset(json.loads(fields.get("ours", "[]"))),
            target=fields.get("target") or None,
            doing=fields.get("doing", ""),
            without_room=frozenset(json.loads(fields.get("without_room", "[]"))),
            trouble={m: Trouble(*told) for m, told in json.loads(fields.get("trouble", "{}")).items()},
        )


@dataclass(frozen=True, slots=True)
class MemberReport:
    """What one worker tells the leader. Times are Unix seconds by Redis' clock."""

    epoch: int = 0
    """The newest plan that all its claims keep to: none under an older one is on its way."""
    in_flight: Mapping[str, int] = field(default_factory=dict)
    demand: Mapping[str, float] = field(default_factory=dict)
    """Models whose jobs it had to pass over -> since when."""
    at_work: frozenset[str] = frozenset()
    """Models of which its queues may have more jobs."""
    preload: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Compact."""
        told = {
            "epoch": self.epoch,
            "in_flight": dict(self.in_flight),
            "demand": dict(self.demand),
            "at_work": sorted(self.at_work),
            "preload": self.preload,
        }
        return json.dumps(told, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> MemberReport | None:
        """The inverse. None: it is of another version, and can't be read."""
        try:
            return cls._read(json.loads(text))
        except (ValueError, KeyError, TypeError):
            return None

    @classmethod
    def _read(cls, told: dict[str, Any]) -> MemberReport:
        return cls(
            int(told["epoch"]),
            told["in_flight"],
            told["demand"],
            frozenset(told["at_work"]),
            tuple(told["preload"]),
        )


@dataclass(frozen=True, slots=True)
class Wish:
    """Places of a model's shared limit that a worker would like to hold."""

    model: str
    taken: int
    """Those that it may fill without asking: by what runs, by claims under way, by its last leave."""
    want: int
    limit: int
    has_work: bool


@dataclass(frozen=True, slots=True)
class Synced:
    """What a turn with Redis brought."""

    now_ms: int
    leads: bool
    plan: Plan
    held: Mapping[str, int]
    """Places that may be filled from now, by model of the wishes."""
    members: Mapping[str, MemberReport]
    """The leader's only."""
    again_s: float | None = None
    """Until a turn at a place ends that others wait for, seconds."""
