"""A rules file as people write it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

RESERVED_IDS = frozenset({"hook", "hook_unavailable"})
"""What the hook's findings are called."""

DetectorName = Literal["email", "phone", "credit_card", "iban", "ip", "us_ssn", "api_key", "url_password"]
"""The names in ``detectors.py``."""
RuleId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
Keyword = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"\S")]
Glob = Annotated[str, StringConstraints(min_length=1, max_length=253)]
Replacement = Annotated[str, StringConstraints(max_length=64, pattern=r"\S")]


class Stage(StrEnum):
    """Which side of the model a text is on."""

    INPUT = "input"
    OUTPUT = "output"


class Action(StrEnum):
    """What a find comes to."""

    BLOCK = "block"
    """The job fails."""
    REDACT = "redact"
    """The find is replaced."""
    FLAG = "flag"
    """The result names the rule."""
    SHADOW = "shadow"
    """Only counted and logged: a rule on trial."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class PresidioSpec(_Part):
    """Microsoft Presidio's recognisers that need no language model."""

    entities: list[Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{1,63}$")]] = Field(min_length=1)
    language: Annotated[str, StringConstraints(pattern=r"^[a-z]{2}$")] = "en"
    threshold: float = Field(default=0.5, gt=0, le=1)


class MatchSpec(_Part):
    """What is looked for: exactly one of the four."""

    keywords: list[Keyword] | None = Field(default=None, min_length=1, max_length=2_000)
    regex: Annotated[str, StringConstraints(min_length=1, max_length=2_000)] | None = None
    detector: DetectorName | None = None
    presidio: PresidioSpec | None = None
    case_sensitive: bool | None = None
    """None: a regex is, keywords aren't."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [name for name in ("keywords", "regex", "detector", "presidio") if getattr(self, name) is not None]
        if len(given) != 1:
            told = " and ".join(given) or "none"
            raise ValueError(f"got {told}, wanted one of keywords, regex, detector, presidio")
        if self.case_sensitive is not None and given[0] in ("detector", "presidio"):
            raise ValueError(f"case_sensitive: for keywords and regex, not for {given[0]}")
        return self


class ScopeSpec(_Part):
    """The jobs that a rule is for, by shell-style patterns. None: all."""

    tenants: list[Glob] | None = Field(default=None, min_length=1)
    queues: list[Glob] | None = Field(default=None, min_length=1)
    models: list[Glob] | None = Field(default=None, min_length=1)


class RuleSpec(_Part):
    """One rule."""

    id: RuleId
    on: Literal["input", "output", "both"] = "both"
    action: Literal["block", "redact", "flag", "shadow"]
    match: MatchSpec
    replace: Replacement | None = None
    only: ScopeSpec = ScopeSpec()

    @field_validator("id")
    @classmethod
    def _not_reserved(cls, value: str) -> str:
        if value in RESERVED_IDS:
            raise ValueError("this name is the hook's")
        return value

    @model_validator(mode="after")
    def _replaces_only_where_it_redacts(self) -> Self:
        if self.replace is not None and self.action != "redact":
            raise ValueError(f"replace: only with action redact, not with {self.action}")
        return self

    @property
    def replacement(self) -> str:
        """What a find becomes. Never blank: an empty prompt is a command to Ollama."""
        return self.replace or f"[{self.id}]"


class RulesSpec(_Part):
    """The whole file."""

    rules: list[RuleSpec] = Field(max_length=500)

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        seen: set[str] = set()
        for rule in self.rules:
            if rule.id in seen:
                raise ValueError(f"rules: id {rule.id} is there twice")
            seen.add(rule.id)
        return self
