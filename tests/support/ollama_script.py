"""What the scripted Ollama is told to do, and what it tells about the requests that it saw."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Self

DEFAULT_MODELS: Mapping[str, tuple[str, ...]] = {
    "gemma3:270m": ("completion",),
    "all-minilm:latest": ("embedding",),
}


class Fault(StrEnum):
    """The faults that a rule may name. All but ERROR and BUSY happen after a status of 200."""

    ERROR = "500"  # status 500: the runner died
    BUSY = "503"  # status 503: the queue is full
    STALL = "stall"  # sends `after_tokens` tokens, then nothing; the socket stays open
    NO_DONE = "no_done"  # the stream ends in good order, without its final object
    HALF_LINE = "half_line"  # the stream ends in the middle of a line
    ERROR_LINE = "error_line"  # a line {"error": message}, and the end
    CLOSE = "close"  # the connection is reset
    SLOW = "slow"  # `delay_s` for each token


@dataclass(frozen=True)
class Rule:
    """One fault, and the requests that it hits: the first rule that matches a request counts.

    Requests are counted from 1: those to `model`, or all of them where `model` is None. `nth` names some of them,
    `every` each k-th; without either, all are hit.
    """

    fault: Fault
    model: str | None = None
    nth: tuple[int, ...] = ()
    every: int = 0
    after_tokens: int = 2
    delay_s: float = 0.1
    message: str = "an error was encountered while running the model: unexpected EOF"

    def hits(self, model: str, number_of_model: int, number: int) -> bool:
        if self.model is not None and folded(self.model) != model:
            return False
        counted = number if self.model is None else number_of_model
        if self.nth or self.every:
            return counted in self.nth or (self.every > 0 and counted % self.every == 0)
        return True


@dataclass(frozen=True)
class Script:
    """How the server behaves. `models`: name -> capabilities. Times in seconds, for each token."""

    rules: tuple[Rule, ...] = ()
    tokens: int = 8
    delay_s: float = 0.0
    dimensions: int = 8
    models: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict(DEFAULT_MODELS))

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """TypeError or ValueError for a name or a fault that isn't known."""
        parts = dict(given)
        if "rules" in parts:
            rules = [
                {**rule, "fault": Fault(rule["fault"]), "nth": tuple(rule.get("nth", ()))} for rule in parts["rules"]
            ]
            parts["rules"] = tuple(Rule(**rule) for rule in rules)
        if "models" in parts:
            parts["models"] = {folded(name): tuple(kinds) for name, kinds in parts["models"].items()}
        return cls(**parts)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def rule_for(self, model: str, seen: "Seen") -> Rule | None:
        """The rule for the request to `model` that was counted last."""
        for rule in self.rules:
            if rule.hits(model, seen.count[model], seen.count.total()):
                return rule
        return None


@dataclass
class Call:
    """One request to a model. Times are Unix seconds; `outcome` is answered, fault or client gone."""

    path: str
    model: str
    body: Mapping[str, Any]
    began_at: float
    fault: str | None = None
    outcome: str | None = None
    ended_at: float | None = None


class Seen:
    """The requests for an answer since the last script; loads and unloads are counted apart."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.count: Counter[str] = Counter()
        self.loads: list[tuple[str, str]] = []
        self._running: Counter[str] = Counter()
        self._peak: Counter[str] = Counter()
        self._peak_of_all = 0

    def begin(self, path: str, model: str, body: Mapping[str, Any]) -> Call:
        call = Call(path, model, body, time.time())
        self.calls.append(call)
        self.count[model] += 1
        self._running[model] += 1
        self._peak[model] = max(self._peak[model], self._running[model])
        self._peak_of_all = max(self._peak_of_all, self._running.total())
        return call

    def end(self, call: Call) -> None:
        call.ended_at = time.time()
        self._running[call.model] -= 1

    def to_json(self) -> dict[str, Any]:
        return {
            "calls": [asdict(call) for call in self.calls],
            "count": dict(self.count),
            "loads": self.loads,
            "running": self._running.total(),
            "max_concurrent": dict(self._peak),
            "max_concurrent_all": self._peak_of_all,
        }


def folded(name: str) -> str:
    """A model's name with the tag that Ollama adds to a bare one."""
    return name if not name or ":" in name.rpartition("/")[2] else f"{name}:latest"
