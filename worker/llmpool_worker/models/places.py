"""Whose jobs this worker may claim, and how many more of each model: the leader's plan, as it bears on one worker.

Counted in units: a slot is worth ``batch`` of them, and so many inputs of embed jobs share one. Time is a parameter,
Unix seconds by Redis' clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from .types import MemberReport, Plan, Trouble, Wish

ANY = "*"
"""Any model that isn't named."""


COMING_S = 3.0
"""How long a model that was opened for jobs that were put off counts as having work: they are back by then."""


class Places:
    """One worker's view of one model server."""

    def __init__(
        self,
        *,
        managed: bool,
        batch: int,
        limit_of: Callable[[str], int | None],
        refused: Callable[[str], bool],
        named: Iterable[str] = (),
    ) -> None:
        """``named``: models that have a word of their own about their limit."""
        self.managed, self._batch = managed, batch
        self._limit_of, self._refused = limit_of, refused
        self.plan = Plan()
        self._claim_epoch: int | None = None
        self._units: Counter[str] = Counter()
        self._permits: dict[str, int] = {}
        self._claimable: dict[str, int] = {}
        """Places that claims under way may fill: those held when they were sent."""
        self.gives_back = False
        """Whether the last word took places away: the others have them once they hear that these stay empty."""
        self._passed: dict[str, dict[str, float]] = {}
        self._more: dict[str, frozenset[str]] = {}
        self._missed: dict[str, float] = {}
        self._coming: dict[str, float] = {}
        self._named = frozenset(named)
        self._limited = {model for model in self._named if limit_of(model) is not None}
        """Models with a limit that this worker has to do with."""

    # -- what runs here

    def began(self, model: str, units: int) -> None:
        """A job of this model is held."""
        self._units[model] += units

    def ended(self, model: str, units: int) -> bool:
        """It isn't any more. True: somebody may be waiting for that."""
        limited = self._limit_of(model) is not None
        over_limit = limited and self._units[model] > self._permits.get(model, 0) * self._batch
        self._units[model] -= units
        if self._units[model] > 0:
            return over_limit
        del self._units[model]
        return over_limit or (self.managed and (model not in self.plan.opened or self.waits))

    @property
    def busy(self) -> bool:
        """Whether anything runs or waits here, or a change of models is under way."""
        waits = self.waits or any(self._more.values())
        return bool(self._units or waits or self.plan.target or self.plan.doing)

    # -- claims

    def caps(self, free: int) -> Mapping[str, int] | None:
        """Units that a claim may take, by model; ``*``: any other. None: any, up to what is free."""
        if not self.managed or self.plan.away:
            # Of a model that nobody has met yet no places are held: a claim that comes upon it makes them be asked for.
            limited = self._limit_of(ANY) is not None
            known = {model: self._room(model, free) for model in self._limited | self._named}
            return {**known, ANY: 0 if limited else free} if known or limited else None
        caps = {model: self._room(model, free) for model in self.plan.opened}
        # Jobs that no model will answer are taken all the same, to be told so or to go on to a fallback.
        caps |= dict.fromkeys(self.plan.trouble, free)
        return caps | {model: free for model in self._seen() if self._refused(model)}

    def _room(self, model: str, free: int) -> int:
        if self._limit_of(model) is None:
            return free
        held = self._permits.get(model, 0) * self._batch
        return max(0, min(free, held - self._units[model]))

    def claim_begins(self) -> None:
        """A claim under the present plan is sent. One that has no answer yet counts as under its older plan."""
        if self._claim_epoch is None:
            self._claim_epoch = self.plan.epoch
        for model, places in self._permits.items():
            self._claimable[model] = max(places, self._claimable.get(model, 0))

    def claim_ends(self) -> bool:
        """All claims were answered, and their jobs are held. True: the plan or the limits have changed meanwhile."""
        begun, self._claim_epoch = self._claim_epoch, None
        claimable, self._claimable = self._claimable, {}
        fewer = any(places > self._permits.get(model, 0) for model, places in claimable.items())
        return fewer or (begun is not None and begun != self.plan.epoch)

    def looked(self, queue: str, passed: Mapping[str, int], more: frozenset[str], *, full: bool) -> bool:
        """What a claim passed over, Unix ms, and may have left. ``full``: it had enough before it saw all, and what
        was passed over earlier still waits. True: the leader should hear of it at once."""
        demand = {model: since / 1_000 for model, since in passed.items()}
        if full:
            known = self._passed.get(queue, {})
            demand = {model: since for model, since in known.items() if model not in self.plan.opened} | demand
        news = self._demand_of(demand) - self._demand_of(self._passed.get(queue, {}))
        before = self._more.get(queue, frozenset())
        self._passed[queue], self._more[queue] = demand, more
        limited = {model for model in (*demand, *more) if self._limit_of(model) is not None} - self._limited
        self._limited |= limited
        # Who begins or ceases to have work for a shared place says so: others keep it free for who waits.
        changed = bool((before ^ more) & self._limited)
        return bool(news or limited) or changed or bool(before - more and self.waits)

    def met(self, model: str) -> None:
        """A job of this model is here: where it has a limit, its places are asked for from now on."""
        if self._limit_of(model) is not None:
            self._limited.add(model)

    def missed(self, model: str, now: float) -> bool:
        """A job was claimed for a model that isn't open: its body was too long to look into. True: that is news."""
        new = model not in self._missed
        self._missed.setdefault(model, now)
        return new

    def _demand_of(self, passed: Mapping[str, float]) -> frozenset[str]:
        return frozenset(m for m in passed if m not in self.plan.opened and not self._refused(m))

    def _seen(self) -> set[str]:
        return {model for passed in self._passed.values() for model in passed} | self._missed.keys()

    @property
    def waits(self) -> bool:
        """Whether jobs wait for a model that isn't open."""
        return bool(self._demand_of(self.demand))

    @property
    def demand(self) -> dict[str, float]:
        """Model -> since when its jobs wait, Unix seconds."""
        found = dict(self._missed)
        for passed in self._passed.values():
            for model, since in passed.items():
                found[model] = min(since, found.get(model, since))
        return {model: since for model, since in found.items() if not self._refused(model)}

    # -- the leader's word

    def heard(self, plan: Plan, held: Mapping[str, int], now: float = 0.0) -> bool:
        """A new plan, and the places held of shared limits. True: claims may find something that they didn't."""
        better = bool(plan.opened - self.plan.opened or plan.trouble.keys() - self.plan.trouble.keys())
        better = (
            better
            or plan.away != self.plan.away
            or any(places > self._permits.get(model, 0) for model, places in held.items())
        )
        self.gives_back = any(held.get(model, 0) < places for model, places in self._permits.items())
        self.plan, self._permits = plan, dict(held)
        for model in plan.opened | plan.trouble.keys():
            if self._missed.pop(model, None) is not None and model in plan.opened:
                self._coming[model] = now + COMING_S
        for queue, passed in self._passed.items():
            # What could not be taken now can. Until the next look there may be work; how long it waited is past, for
            # when this worker comes to look the model may have had its turn.
            self._more[queue] = self._more[queue] | (passed.keys() & plan.opened)
            self._passed[queue] = {model: since for model, since in passed.items() if model not in plan.opened}
        return better

    def trouble_of(self, model: str, now: float) -> Trouble | None:
        """Why this model can't be had."""
        trouble = self.plan.trouble.get(model)
        return trouble if trouble is not None and now < trouble.until else None

    def is_open(self, model: str) -> bool:
        """Whether its jobs may run."""
        return not self.managed or self.plan.away or model in self.plan.opened

    def report(self, preload: tuple[str, ...], now: float = 0.0) -> MemberReport:
        """For the leader."""
        epoch = self.plan.epoch if self._claim_epoch is None else min(self._claim_epoch, self.plan.epoch)
        coming = {model for model, until in self._coming.items() if now < until}
        at_work = frozenset(coming).union(*self._more.values())
        return MemberReport(epoch, dict(self._units), self.demand, at_work, preload)

    def permits(self) -> dict[str, tuple[int, int]]:
        """Limited models -> (slots in use here, the limit that all workers share)."""
        limits = {model: limit for model in self._limited if (limit := self._limit_of(model)) is not None}
        return {model: (-(-self._units[model] // self._batch), limit) for model, limit in limits.items()}

    def wishes(self, free: int) -> list[Wish]:
        """Places of shared limits that this worker wants: what it uses, and what it could."""
        names = self._limited | {model for model in self.plan.opened if self._limit_of(model) is not None}
        return [self._wish(model, free // self._batch) for model in sorted(names)]

    def _wish(self, model: str, free: int) -> Wish:
        used = -(-self._units[model] // self._batch) if model in self._units else 0
        taken = max(used, self._permits.get(model, 0), self._claimable.get(model, 0))
        limit = self._limit_of(model)
        assert limit is not None
        has_work = any(model in more for more in self._more.values()) or model in self.demand
        return Wish(model, taken, min(limit, used + free), limit, has_work)
