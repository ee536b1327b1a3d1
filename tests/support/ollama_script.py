"""What the scripted Ollama is told to do."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Protocol, Self

from llmpool_contract.models import folded

DEFAULT_MODELS: Mapping[str, tuple[str, ...]] = {
    "gemma3:270m": ("completion",),
    "all-minilm:latest": ("embedding",),
}


class Fault(StrEnum):
    """The faults that a rule may name. The first group happens in place of an answer, the second one within it."""

    ERROR = "500"  # status 500: the runner died
    LOAD_FAILED = "load_failed"  # status 500: the model doesn't fit
    BUSY = "503"  # status 503: the queue is full
    BAD_REQUEST = "400"  # status 400, whatever was asked
    EMBED_CRASH = "embed_crash"  # status 400, and yet the runner's fault
    REDIRECT = "redirect"  # status 307 to somewhere else
    NEVER = "never"  # the connection is taken, and no header ever comes
    NO_HEADERS = "no_headers"  # the connection is closed in good order before any header
    NOT_DONE = "not_done"  # status 200, and one object that says done: false

    STALL = "stall"  # sends `after_tokens` tokens, then nothing; the socket stays open
    DRIP = "drip"  # sends them, then a byte of an unfinished line each `delay_s`
    ENDLESS = "endless"  # goes on for ever, whatever num_predict says
    BIG_LINE = "big_line"  # a line of 10 MB
    NO_DONE = "no_done"  # the stream ends in good order, without its final object
    HALF_LINE = "half_line"  # the stream ends in the middle of a line
    ERROR_LINE = "error_line"  # a line {"error": message}, and the end
    CLOSE = "close"  # the connection is reset
    SLOW = "slow"  # `delay_s` for each token


@dataclass(frozen=True)
class Rule:
    """One fault, and the requests that it hits: the first rule that matches a request counts.

    Requests are counted from 1: those to `model`, or all of them where `model` is None. `nth` names some of them,
    `every` each k-th; without either, all are hit. Commands to load or unload are no requests.
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


class Counts(Protocol):
    """How many requests there were so far."""

    def of(self, model: str) -> int: ...

    def total(self) -> int: ...


@dataclass(frozen=True)
class Script:
    """How the server behaves. Times in seconds; models: name -> capabilities."""

    rules: tuple[Rule, ...] = ()
    tokens: int = 8  # of an answer that num_predict doesn't cut
    delay_s: float = 0.0  # for each token
    dimensions: int = 8
    models: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict(DEFAULT_MODELS))
    pullable: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # models that /api/pull finds
    pull_s: float = 0.0
    sizes: Mapping[str, int] = field(default_factory=dict)  # bytes of a model, 300 MB where it isn't here
    max_loaded: int = 3  # OLLAMA_MAX_LOADED_MODELS
    num_parallel: int = 4  # OLLAMA_NUM_PARALLEL; embedding models have 1, as in Ollama
    load_s: float = 0.0
    load_fails: tuple[str, ...] = ()  # models that don't fit
    embed_call_s: float = 0.0
    embed_input_s: float = 0.0
    refuse_text: str | None = None  # a call for embeddings with this text is refused as a whole
    others_waiting: int = 0  # what /metrics says beyond our own requests

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """TypeError or ValueError for a name or a fault that isn't known."""
        parts = dict(given)
        if "rules" in parts:
            rules = [
                {**rule, "fault": Fault(rule["fault"]), "nth": tuple(rule.get("nth", ()))} for rule in parts["rules"]
            ]
            parts["rules"] = tuple(Rule(**rule) for rule in rules)
        for name in ("models", "pullable"):
            if name in parts:
                parts[name] = {folded(model): tuple(kinds) for model, kinds in parts[name].items()}
        if "sizes" in parts:
            parts["sizes"] = {folded(model): size for model, size in parts["sizes"].items()}
        if "load_fails" in parts:
            parts["load_fails"] = tuple(folded(model) for model in parts["load_fails"])
        return cls(**parts)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def rule_for(self, model: str, counts: Counts) -> Rule | None:
        """The rule for the request to `model` that was counted last."""
        for rule in self.rules:
            if rule.hits(model, counts.of(model), counts.total()):
                return rule
        return None
