"""Which model a job is asked of: its own, or the first of its fallbacks that may be called. Pure.

Names are compared with their tag (``m`` is ``m:latest``) and sent as they were written: servers other than Ollama know
no tags.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from llmpool_contract import Job
from llmpool_contract.models import folded, is_cloud

from .breaker_types import Open

ATTEMPTS_EACH = 2
"""Attempts that each model of a chain gets before the next one comes first: one failure may pass by itself."""


@dataclass(frozen=True, slots=True)
class Take:
    """Ask this model."""

    model: str
    reason: str
    """Empty: it is the job's own."""
    fallback_from: str | None = None
    """The job's own model, where another is taken."""


@dataclass(frozen=True, slots=True)
class Wait:
    """None may be asked. ``until``: monotonic seconds at which ``model``, the first of them, may be probed."""

    until: float
    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class Exhausted:
    """Every model of the chain was tried in this attempt: the last one's failure decides."""


Route = Take | Wait | Exhausted


class AllowedModels:
    """ALLOWED_MODELS. Without a name: any local model."""

    def __init__(self, names: Collection[str] = ()) -> None:
        self._names = frozenset(folded(name) for name in names)

    def refusal(self, model: str) -> str | None:
        """Why a model may not be asked: what was given and what is allowed. None: it may be."""
        if is_cloud(model):
            return f"got {model}: Ollama would send it to a server outside"
        if self._names and folded(model) not in self._names:
            return f"got {model}, allowed are {', '.join(sorted(self._names))} (ALLOWED_MODELS)"
        return None


class Chains:
    """The models that each job may be asked of, in order."""

    def __init__(self, fallbacks: Mapping[str, Sequence[str]], allowed: AllowedModels) -> None:
        self._fallbacks = {folded(model): tuple(names) for model, names in fallbacks.items()}
        self._allowed = allowed

    def refusal(self, job: Job) -> str | None:
        """Why a job can't be run at all: its own model isn't allowed, which no fallback hides."""
        reason = self._allowed.refusal(job.model)
        return None if reason is None else f"model: {reason}"

    def refuses(self, model: str) -> bool:
        """Whether jobs for this model are refused, so that nothing need be loaded for them."""
        return self._allowed.refusal(model) is not None

    def of(self, job: Job) -> tuple[str, ...]:
        """The job's own model, then its fallbacks, or if it names none (an empty list is a choice) the pool's for that
        model. Each once, those that aren't allowed left out."""
        named = job.fallback_models
        fallbacks = self._fallbacks.get(folded(job.model), ()) if named is None else named
        if not fallbacks:
            return (job.model,)
        chain = {folded(job.model): job.model}
        for name in fallbacks:
            if self._allowed.refusal(name) is None:
                chain.setdefault(folded(name), name)
        return tuple(chain.values())


def preferred(chain: Sequence[str], attempts: int) -> tuple[str, ...]:
    """The chain in the order of this attempt. ``attempts``: those that failed before. A model that failed
    :data:`ATTEMPTS_EACH` times goes behind the others; the last one keeps its turn."""
    first = min(attempts // ATTEMPTS_EACH, len(chain) - 1)
    return (*chain[first:], *chain[:first])


def route(
    chain: Sequence[str],
    blocked: Callable[[str], Open | None],
    now: float,
    *,
    attempts: int = 0,
    known: Collection[str] | None = None,
    tried: Collection[str] = (),
) -> Route:
    """The first model that may be called now.

    Args:
        chain: from :meth:`Chains.of`.
        blocked: what the breakers say of a model (its folded name), without taking a permit.
        now: monotonic seconds.
        attempts: failed attempts before this one.
        known: folded names of models that the server has. None: not known. Where it has none of the chain the list is
            taken to be stale: the server has the last word.
        tried: models (as in the chain) that failed in this attempt in a way that goes on to the next.
    """
    left = [model for model in preferred(chain, attempts) if model not in tried]
    there = left if known is None else [model for model in left if folded(model) in known]
    waits: list[Wait] = []
    for model in there or left:
        shut = blocked(folded(model))
        if shut is None:
            return _taken(chain, model, waits, attempts, tried)
        waits.append(Wait(shut.until, model, _shut(model, shut, now)))
    return min(waits, key=lambda wait: wait.until, default=Exhausted())


def _shut(model: str, shut: Open, now: float) -> str:
    return f"the breaker of {model} is open for {max(0.0, shut.until - now):.0f} s more: {shut.reason}"


def _taken(chain: Sequence[str], model: str, waits: list[Wait], attempts: int, tried: Collection[str]) -> Take:
    own = chain[0]
    if model == own:
        return Take(model, "")
    if waits:
        reason = waits[0].reason
    elif own in tried:
        reason = f"{own} failed in this attempt"
    elif attempts >= ATTEMPTS_EACH:
        reason = f"{attempts} attempts have failed"
    else:
        reason = f"the server doesn't have {own}"
    return Take(model, reason, own)
