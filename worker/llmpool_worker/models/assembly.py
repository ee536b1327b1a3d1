"""The part of a worker that has to do with which models are in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from llmpool_contract import BackendKeys
from llmpool_contract.models import folded
from llmpool_worker.asking import Models, guarded_call
from llmpool_worker.backends import Backend
from llmpool_worker.backends.base import Batch
from llmpool_worker.breakers import Breakers
from llmpool_worker.clock import RedisClock
from llmpool_worker.embedding import Embedder
from llmpool_worker.queue.connections import Connections
from llmpool_worker.routing import Chains
from llmpool_worker.settings import Settings
from llmpool_worker.telling.metrics import Metrics
from llmpool_worker.telling.troubles import Failed

from .deciding import Rules
from .fit import Fits, Memory
from .keeper import ModelKeeper
from .leader import Leader, LeaderRules
from .places import Places
from .store import BackendStore


@dataclass(frozen=True, slots=True)
class Terms:
    """What a claim keeps to (``intake.py``), and who hears what it passed over."""

    places: Places
    soon: Callable[[], None]

    def caps(self, free: int) -> Mapping[str, int] | None:
        """Units of each model; None: of any."""
        return self.places.caps(free)

    def claim_begins(self) -> None:
        """A claim is sent."""
        self.places.claim_begins()

    def claim_ends(self) -> None:
        """Every claim was answered."""
        if self.places.claim_ends():
            self.soon()

    def looked(self, queue: str, passed: Mapping[str, int], more: frozenset[str], *, full: bool) -> None:
        """What a claim passed over, and may have left."""
        if self.places.looked(queue, passed, more, full=full):
            self.soon()


@dataclass(frozen=True, slots=True)
class ModelSide:
    """The parts, as others need them."""

    keeper: ModelKeeper
    places: Places
    fits: Fits
    breakers: Breakers
    models: Models
    embedder: Embedder
    embeds_coming: set[str]
    terms: Terms
    listens: Mapping[str, Callable[[], None]]
    """Channel -> what its messages do."""


@dataclass(frozen=True, slots=True)
class Told:
    """Counts what the leader does."""

    metrics: Metrics

    def loaded(self, model: str, seconds: float, code: str | None) -> None:
        """A load has ended."""
        if code is None:
            self.metrics.models.loaded(model, seconds)
        else:
            self.metrics.models.load_failed(model)

    def unloaded(self, model: str, reason: str) -> None:
        """One is about to go."""
        self.metrics.models.unloaded(model)
        if reason != "idle":
            self.metrics.models.swapped()


def make_model_side(
    s: Settings,
    connections: Connections,
    backend: Backend,
    clock: RedisClock,
    breakers: Breakers,
    chains: Chains,
    metrics: Metrics,
    free: Callable[[], int],
    failed: Callable[[str], Failed],
) -> ModelSide:
    """Make them and introduce them to each other."""
    managed = s.model_management and backend.capabilities.manages_models
    keys = BackendKeys.of(s.ollama_base_url)
    places = Places(
        managed=managed,
        batch=s.worker_batch_size,
        limit_of=limits_of(s),
        refused=chains.refuses,
        named=[model for model, of in s.model_settings.items() if of.max_in_flight is not None],
    )
    fits = Fits(Memory(s.model_memory_bytes, s.model_memory_threshold, s.ollama_max_loaded_models))
    leader = Leader(backend, make_leader_rules(s), fits, Told(metrics)) if managed else None
    store = BackendStore(keys, s.worker_id)
    keeper = ModelKeeper(connections.repeating(), store, clock, places, leader, free, s.preload, failed("models"))
    models = Models(keys.server, breakers, places, lambda: clock.now_ms() / 1_000, keeper.soon)
    coming: set[str] = set()

    async def call(texts: list[str], model: str) -> Batch:
        metrics.models.embed_call(model, len(texts))
        return await guarded_call(backend, models, s.ollama_timeout / 1_000, texts, model)

    embedder = Embedder(
        call,
        batch_size=s.worker_batch_size,
        gather_s=s.embed_gather_wait / 1_000,
        more_expected=lambda: bool(coming),
        max_calls=1 if s.backend == "ollama" else s.worker_concurrency,
    )
    listens = {keys.news: keeper.soon}
    return ModelSide(keeper, places, fits, breakers, models, embedder, coming, Terms(places, keeper.soon), listens)


def limits_of(s: Settings) -> Callable[[str], int | None]:
    """Model -> requests of it that may be under way in all workers of the server together. None: no limit."""
    named = {model: of.max_in_flight for model, of in s.model_settings.items() if of.max_in_flight is not None}
    return lambda model: named.get(folded(model), s.ollama_num_parallel)


def make_leader_rules(s: Settings) -> LeaderRules:
    """When models change places."""
    registries = frozenset(name.strip() for name in s.model_pull_registries.split(",") if name.strip())
    rules = Rules(s.model_max_wait / 1_000, s.model_quantum / 1_000, s.model_idle_timeout / 1_000 or None)
    return LeaderRules(rules, s.model_load_timeout / 1_000, lambda model: s.model_pull and _from(model, registries))


def _from(model: str, registries: frozenset[str]) -> bool:
    """Whether a model's name leads to one of these hosts. Ollama takes the first part for one where it has a dot or a
    port, or where there are three parts; a name without is its own registry's."""
    first, *rest = model.split("/")
    named = bool(rest) and ("." in first or ":" in first or first == "localhost" or len(rest) > 1)
    return (first if named else "registry.ollama.ai") in registries
