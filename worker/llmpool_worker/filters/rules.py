"""From a rules file's text to rules that can be applied, or to an error that says what to mend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from llmpool_contract import Job

from .detectors import of_detector
from .matching import Matcher, of_keywords, of_pattern
from .spec import Action, MatchSpec, PresidioSpec, RuleSpec, RulesSpec, ScopeSpec, Stage
from .width import BadPattern
from .yaml12 import read_yaml

Analyze = Callable[[str], list[tuple[int, int]]]
"""(begin, end) in characters of what an analyzer found in a text."""
MakeAnalyzer = Callable[[PresidioSpec], Analyze]
"""Raises BadPattern where it can't be had."""


class RulesError(ValueError):
    """A rules file that can't be used: names the file, the rule, the field, what was given and what is allowed."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, compiled."""

    spec: RuleSpec
    action: Action
    matcher: Matcher

    @property
    def replacement(self) -> str | None:
        """What takes a find's place, for rules that redact."""
        return self.spec.replacement if self.action is Action.REDACT else None


@dataclass(frozen=True, slots=True)
class AnalyzerRule:
    """One rule whose finds need the whole text."""

    spec: RuleSpec
    action: Action
    analyze: Analyze


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules of a file, or those of them that one text is held to."""

    plain: tuple[Rule, ...] = ()
    analyzed: tuple[AnalyzerRule, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.plain or self.analyzed)

    def of(self, stage: Stage, job: Job, queue: str) -> Rules:
        """Those for this job's text at this stage."""
        return Rules(
            tuple(rule for rule in self.plain if _applies(rule.spec, stage, job, queue)),
            tuple(rule for rule in self.analyzed if _applies(rule.spec, stage, job, queue)),
        )


def _applies(spec: RuleSpec, stage: Stage, job: Job, queue: str) -> bool:
    only = spec.only
    return (
        spec.on in (stage, "both")
        and _among(job.tenant, only.tenants)
        and _among(queue, only.queues)
        and _among(job.model, only.models)
    )


def _among(name: str | None, patterns: list[str] | None) -> bool:
    return patterns is None or (name is not None and any(fnmatchcase(name, pattern) for pattern in patterns))


def read_rules(text: str, file: str, make_analyzer: MakeAnalyzer) -> Rules:
    """Parse, validate and compile a file's text. ``file``: its name for the errors. Raises RulesError."""
    try:
        value = read_yaml(text)
        spec = RulesSpec.model_validate(value)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        raise RulesError("\n".join(f"{file}: {_fault(fault, value)}" for fault in faults)) from None
    except ValueError as error:
        raise RulesError(f"{file}: {error}") from None
    made = [_compiled(rule, file, make_analyzer) for rule in spec.rules]
    return Rules(
        tuple(rule for rule in made if isinstance(rule, Rule)),
        tuple(rule for rule in made if isinstance(rule, AnalyzerRule)),
    )


def _compiled(spec: RuleSpec, file: str, make_analyzer: MakeAnalyzer) -> Rule | AnalyzerRule:
    action, match = Action(spec.action), spec.match
    try:
        if match.presidio:
            return AnalyzerRule(spec, action, make_analyzer(match.presidio))
        return Rule(spec, action, _matcher(match))
    except BadPattern as error:
        kind, given = next((name, value) for name, value in match if value is not None)
        shown = f"got {given!r:.200}: " if kind == "regex" else ""
        raise RulesError(f"{file}: rule {spec.id}: match.{kind}: {shown}{error}") from None


def _matcher(match: MatchSpec) -> Matcher:
    if match.keywords:
        return of_keywords(match.keywords, case_sensitive=bool(match.case_sensitive))
    if match.regex:
        return of_pattern(match.regex, case_sensitive=match.case_sensitive is not False)
    return of_detector(str(match.detector))


_MODELS: dict[str, type[BaseModel]] = {
    "rules": RuleSpec,
    "match": MatchSpec,
    "only": ScopeSpec,
    "presidio": PresidioSpec,
}


def _fault(fault: ErrorDetails, value: Any) -> str:
    """One of pydantic's findings, with the rule's id before it where it has one."""
    path = fault["loc"]
    field, rule = ".".join(map(str, path)), ""
    if len(path) > 1 and path[0] == "rules" and isinstance(path[1], int):
        given = value["rules"][path[1]]
        found = given.get("id") if isinstance(given, dict) else None
        rule, field = f"rule {found or path[1]}: ", ".".join(map(str, path[2:]))
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        holder = next((str(part) for part in reversed(path[:-1]) if isinstance(part, str)), "")
        message = f"unknown field, allowed are {', '.join(_MODELS.get(holder, RulesSpec).model_fields)}"
    elif fault["type"] == "missing":
        message = "missing"
    elif fault["type"] != "value_error":
        message = f"got {fault['input']!r:.100}: {message[0].lower()}{message[1:]}"
    return f"{rule}{field}: {message}" if field else f"{rule}{message}"
