"""What the leader of a model server does next. Pure: seconds are parameters, the answer is a small step with a reason.

A change of models is a barrier, made of steps that each can be repeated, so that a new leader goes on where the old one
stopped: shut the models that must go (nobody claims their jobs any more), wait until nothing of theirs runs anywhere,
unload them, load the wanted one in a call of its own, open it. Ollama never has to evict a busy model then, which can
block its scheduler for good (ollama/ollama#17408), and no load dies with the job that asked for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .fit import Fit, Fits

UNUSED_S = 5.0
"""An open model of which no job has begun for so long finds no place for any, seconds."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Seconds."""

    max_wait_s: float
    """A model whose jobs have been passed over for so long goes next, whatever else there is."""
    quantum_s: float
    """How long a model may keep the server while jobs of another wait."""
    idle_s: float | None
    """A model that nobody has asked for so long is unloaded, unless it is on a preload list. None: never."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of one server at one moment. Times are seconds of one clock."""

    now: float
    resident: frozenset[str]
    opened: Mapping[str, float]
    """Models whose jobs may be claimed -> since when."""
    target: str | None
    """The model that a barrier is on its way to."""
    demand: Mapping[str, float]
    """Models whose jobs wait although places are free -> since when they have been passed over."""
    at_work: frozenset[str]
    """Models of which jobs may be left: their queue's last look didn't show that there are none."""
    in_flight: Mapping[str, int]
    """Jobs in all workers."""
    settled: bool
    """Every live worker has heard of the present plan, and no claim under an older one is on its way."""
    used: Mapping[str, float]
    """Model -> when it was last at work."""
    preload: Sequence[str] = ()
    trouble: frozenset[str] = frozenset()
    """Models that can't be loaded for now."""
    ours: frozenset[str] = frozenset()
    """Models that these workers loaded: only those are unloaded."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do, and why. Exactly one of the fields is set; none: there is nothing to do or to wait for."""

    reason: str
    open: frozenset[str] = field(default_factory=frozenset)
    shut: frozenset[str] = field(default_factory=frozenset)
    aim: str | None = None
    drop_aim: bool = False
    unload: str | None = None
    load: str | None = None
    wait: bool = False


NOTHING = Step("nothing to do")


def next_step(facts: Facts, rules: Rules, fits: Fits) -> Step:
    """One step from these facts. Ask again after it."""
    if gone := frozenset(facts.opened) - facts.resident:
        return Step("not resident any more", shut=gone)
    if facts.target is not None:
        return _toward(facts.target, facts, fits)
    if shut := _worth_opening(facts, rules):
        return Step("resident", open=shut)
    return _new_aim(facts, rules, fits) or _preload(facts, rules, fits) or _idle(facts, rules) or NOTHING


def _toward(target: str, facts: Facts, fits: Fits) -> Step:
    """The next step of a barrier."""
    if target in facts.resident:
        return Step("resident", open=frozenset({target}), drop_aim=True)
    if target in facts.trouble:
        return Step("it can't be loaded for now", drop_aim=True)
    if target not in facts.demand and target not in facts.preload:
        return Step("nobody asks for it any more", drop_aim=True)
    victims = _victims(target, facts, fits)
    if shut := victims & frozenset(facts.opened):
        return Step(f"to make room for {target}", shut=shut)
    if busy := [model for model in sorted(victims) if facts.in_flight.get(model)]:
        return Step(f"{', '.join(busy)} still at work", wait=True)
    if victims and not facts.settled:
        return Step("not every worker has heard of it", wait=True)
    leave = victims & facts.ours
    if leave and fits.of(facts.resident | {target}) is Fit.NO:
        return Step(f"to make room for {target}", unload=min(leave, key=lambda m: _worth(m, facts)))
    return Step("wanted", load=target)


def _victims(target: str, facts: Facts, fits: Fits) -> frozenset[str]:
    """Models that must stand still while ``target`` is loaded: those that have to go, or all where nobody knows."""
    match fits.of(facts.resident | {target}):
        case Fit.YES:
            return frozenset()
        case Fit.UNKNOWN:
            return facts.resident
    stay, gone = set(facts.resident), set[str]()
    for model in sorted(facts.resident, key=lambda m: _worth(m, facts)):
        stay.discard(model)
        gone.add(model)
        if fits.of(stay | {target}) is not Fit.NO:
            break
    # What is left may fit or not: nobody knows before it is tried, and nothing may run meanwhile.
    return frozenset(gone) if fits.of(stay | {target}) is Fit.YES else facts.resident


def _worth(model: str, facts: Facts) -> tuple[bool, bool, bool, float]:
    """What to part with first: not at work, not preloaded, ours, longest unused."""
    busy = model in facts.at_work or bool(facts.in_flight.get(model))
    return busy, model in facts.preload, model not in facts.ours, facts.used.get(model, 0.0)


def _worth_opening(facts: Facts, rules: Rules) -> frozenset[str]:
    """Resident models that are shut for no reason any more."""
    shut = facts.resident - frozenset(facts.opened)
    return frozenset(model for model in shut if model in facts.demand or not _is_idle(model, facts, rules))


def _new_aim(facts: Facts, rules: Rules, fits: Fits) -> Step | None:
    """The model that has waited longest, if it may have the server now."""
    waiting = {m: since for m, since in facts.demand.items() if m not in facts.opened and m not in facts.trouble}
    for model in sorted(waiting, key=lambda m: (waiting[m], m)):
        if why := _may_have_it(model, facts.now - waiting[model], facts, rules, fits):
            return Step(why, aim=model)
    return None


def _may_have_it(model: str, waited_s: float, facts: Facts, rules: Rules, fits: Fits) -> str | None:
    """Why this model may make the others stand still now, or None."""
    victims = _victims(model, facts, fits) & frozenset(facts.opened)
    if not victims & facts.at_work:
        return "nothing else has work" if victims else "there is room for it"
    if not all(_has_had_a_job(victim, facts) for victim in victims & facts.at_work):
        return None  # where a load takes longer than others may wait, nobody would get anything
    if waited_s >= rules.max_wait_s:
        return f"its jobs have waited {waited_s:.1f} s"
    if all(facts.now - facts.opened[victim] >= rules.quantum_s for victim in victims):
        return "the others have had their time"
    return None


def _has_had_a_job(model: str, facts: Facts) -> bool:
    """Whether an open model has been at work since it was opened, or is known to find no place."""
    since = facts.opened[model]
    return facts.used.get(model, since) > since or facts.now - since >= UNUSED_S


def _preload(facts: Facts, rules: Rules, fits: Fits) -> Step | None:
    """A model of the preload list that isn't there. It makes no room for itself where that costs somebody's work."""
    for model in facts.preload:
        if model in facts.resident or model in facts.trouble:
            continue
        victims = _victims(model, facts, fits)
        unknown = fits.of(facts.resident | {model}) is Fit.UNKNOWN
        if unknown or not any(victim in facts.preload or _keeps(victim, facts, rules) for victim in victims):
            return Step("on the preload list", aim=model)
    return None


def _keeps(model: str, facts: Facts, rules: Rules) -> bool:
    """Whether a model that jobs asked for stays where a preloaded one wants its room: a job now and then would make
    both be loaded again and again."""
    if model in facts.at_work or facts.in_flight.get(model):
        return True
    return model in facts.ours and facts.now - facts.used.get(model, facts.now) < rules.quantum_s


def preload_without_room(facts: Facts, fits: Fits) -> frozenset[str]:
    """Models of the preload list that don't fit beside the others of it."""
    there = frozenset(facts.preload) & facts.resident
    return frozenset(m for m in facts.preload if m not in there and there and fits.of(there | {m}) is Fit.NO)


def _idle(facts: Facts, rules: Rules) -> Step | None:
    for model in sorted(facts.ours & facts.resident):
        if not _is_idle(model, facts, rules) or model in facts.demand:
            continue
        if model in facts.opened:
            return Step("idle", shut=frozenset({model}))
        if facts.settled and not facts.in_flight.get(model):
            return Step("idle", unload=model)
    return None


def _is_idle(model: str, facts: Facts, rules: Rules) -> bool:
    if rules.idle_s is None or model in facts.preload or facts.in_flight.get(model) or model in facts.at_work:
        return False
    return facts.now - facts.used.get(model, facts.now) >= rules.idle_s


def longest(demands: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Several workers' demands as one: each model's earliest time."""
    merged: dict[str, float] = {}
    for demand in demands:
        for model, since in demand.items():
            merged[model] = min(since, merged.get(model, since))
    return merged
