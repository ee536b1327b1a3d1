"""Rules applied to whole texts."""

from __future__ import annotations

from .findings import Findings
from .redactor import Redactor, TextRule
from .rules import AnalyzerRule, Rule, Rules
from .spec import Action


class Scanner:
    """The rules that one job's text is held to, at one stage."""

    def __init__(self, rules: Rules, findings: Findings) -> None:
        self.rules, self._findings = rules, findings

    def redactor(self) -> Redactor | None:
        """For one text as it comes, analyzers aside. None: no rule looks at it."""
        return Redactor(self.rules.plain, self._found) if self.rules.plain else None

    def whole(self, text: str) -> str:
        """A text with all rules applied. Raises RuleBlocks."""
        redactor = self.redactor()
        return self.analyzed(redactor.whole(text) if redactor else text)

    def analyzed(self, text: str) -> str:
        """The same by the analyzers alone."""
        for rule in self.rules.analyzed:
            text = self._by(rule, text)
        return text

    def _by(self, rule: AnalyzerRule, text: str) -> str:
        finds = rule.analyze(text)
        if not finds:
            return text
        self._findings.found(rule.spec.id, rule.action)
        return replaced(text, finds, rule.spec.replacement) if rule.action is Action.REDACT else text

    def _found(self, rule: TextRule) -> None:
        assert isinstance(rule, Rule)
        self._findings.found(rule.spec.id, rule.action)


def replaced(text: str, finds: list[tuple[int, int]], by: str) -> str:
    """The text with its finds replaced; those that overlap are replaced once. Positions are characters."""
    parts, gone = [], 0
    for begin, end in sorted(finds):
        if begin >= gone:
            parts += [text[gone:begin], by]
        gone = max(gone, end)
    return "".join([*parts, text[gone:]])
