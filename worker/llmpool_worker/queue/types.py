"""What a claim is, and the transitions that may end it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from llmpool_contract import QueueKeys, Result, Status
from llmpool_contract.element import Element


@dataclass(frozen=True, slots=True)
class Claim:
    """One job that this worker holds: nobody else runs it while its lease lasts."""

    keys: QueueKeys
    handle: str
    """``<claim token>:<n>``: proof of holding, never the job's id."""
    element: Element
    claimed_ms: int
    """When, Unix ms by Redis' clock."""

    @property
    def job_id(self) -> str:
        """The id for a job whose body has none: the handle of its first claim, the same after every retry."""
        return self.element.job_id or self.element.origin


@dataclass(frozen=True, slots=True)
class StreamChunk:
    """Consecutive pieces of one job's answer."""

    claim: Claim
    job_id: str
    first: int
    """The number of the first piece, counted from 0 in this claim."""
    pieces: list[tuple[str, str]]
    """(kind, text) each; kind is ``reset``, ``text`` or ``thinking``."""


class Kind(StrEnum):
    """How a claim may end (``lua/settle.lua``)."""

    RESULT = "result"
    DEAD = "dead"
    RETRY = "retry"
    RELEASE = "release"
    DROP = "drop"


class Verdict(StrEnum):
    """May a claimed job run (``lua/check.lua``)?"""

    RUN = "run"
    LOST = "lost"
    ANSWERED = "answered"
    DUPLICATE = "duplicate"
    CANCELLED = "cancelled"


class Hold(StrEnum):
    """What a renewal found (``lua/renew.lua``)."""

    HELD = "held"
    LOST = "lost"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Settlement:
    """One claim's end. Made by the named constructors below, one for each transition."""

    claim: Claim
    kind: Kind
    job_id: str
    status: str = ""
    payload: bytes = b""
    number: int = 0
    reason: str = ""
    note: str = ""
    """JSON for those who ask why a job waits. Never a word of the job's."""
    tenant: str = ""
    tokens: int = 0
    """What its tenant used of the model server; counted where that has a limit."""

    @classmethod
    def answered(cls, claim: Claim, result: Result, *, streamed: bool, tenant: str = "", tokens: int = 0) -> Settlement:
        """Succeeded, cancelled or expired: a result and nothing else."""
        payload = result.to_json()
        return cls(claim, Kind.RESULT, result.id, result.status, payload, int(streamed), tenant=tenant, tokens=tokens)

    @classmethod
    def buried(
        cls, claim: Claim, code: str, reason: str, result: Result | None, *, job_id: str = "", streamed: bool = False
    ) -> Settlement:
        """A dead letter, and where somebody may wait for it a failed result too."""
        payload = result.to_json() if result else b""
        return cls(claim, Kind.DEAD, result.id if result else job_id, code, payload, int(streamed), reason)

    @classmethod
    def retried(
        cls, claim: Claim, job_id: str, delay_ms: int, *, counts: bool, reason: str = "", note: str = ""
    ) -> Settlement:
        """Back later. ``counts``: whether this attempt is one of the few that a job has."""
        return cls(claim, Kind.RETRY, job_id, "1" if counts else "0", b"", delay_ms, reason, note)

    @classmethod
    def released(cls, claim: Claim, job_id: str = "") -> Settlement:
        """Back to the front of its list at no cost: the worker stops, the job did nothing wrong."""
        return cls(claim, Kind.RELEASE, job_id)

    @classmethod
    def dropped(cls, claim: Claim, counter: str) -> Settlement:
        """Never runs, answers nobody: a second job with the id of a live or answered one."""
        return cls(claim, Kind.DROP, "", counter)

    @property
    def postpones(self) -> bool:
        """Whether the job only waits: nothing was asked of the model server."""
        return self.kind is Kind.RETRY and self.status == "0"

    @property
    def outcome(self) -> str:
        """One word for metrics and logs."""
        match self.kind:
            case Kind.RESULT:
                return self.status
            case Kind.DEAD:
                return Status.FAILED
            case Kind.RETRY:
                return "postponed" if self.postpones else "retried"
            case Kind.RELEASE:
                return "released"
        return "dropped"
