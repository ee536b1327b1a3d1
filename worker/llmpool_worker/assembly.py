"""Which part is made of what: settings in, a worker ready to run out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from llmpool_contract import QueueKeys
from llmpool_contract.models import folded

from .admission import Admission, Rules
from .asking import Asker
from .backends import Backend
from .cache import Cache, Serving
from .cache.digests import Digests
from .cancels import CancelListener
from .clock import RedisClock
from .depths import Depths
from .durability import Durability, Wanted
from .filters import Filters, make_limits
from .from_settings import make_limits_of_queues, make_retries, make_run_limits
from .gpu import GpuWatch
from .guards import make_breakers, make_chains, make_gate, make_retry_budget
from .held import Held
from .intake import Intake, Peek
from .journeys import Journeys, Neighbours
from .leases import LeaseKeeper
from .models.assembly import ModelSide, make_model_side
from .queue.cache_store import CacheStore
from .queue.connections import COMMAND_TIMEOUT_S, Connections
from .queue.store import Depth, QueueStore, Tended
from .reporter import Identity, Reporter
from .routing import Chains
from .runner import Ended, Runner
from .saturation import Sample, SaturationGate
from .settings import Settings
from .settler import Settler
from .slots import Slots
from .streams import Streams
from .telling import Teller
from .telling.channels import Channels
from .telling.guards import tell_of_breakers
from .telling.logs import log_event
from .telling.metrics import Metrics
from .telling.troubles import Failed, Troubles
from .tending import Tender
from .worker import Cached, Parts, Worker

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Given:
    """What the owner made, and will close."""

    settings: Settings
    connections: Connections
    backend: Backend
    filters: Filters
    metrics: Metrics
    channels: Channels
    gpus: GpuWatch
    version: str


@dataclass(frozen=True, slots=True)
class Assembled:
    """A worker and what its owner must start or read beside it."""

    worker: Worker
    reporter: Reporter
    peeks: list[Peek]
    models: ModelSide
    watch: Watch
    depths: Depths


@dataclass(frozen=True, slots=True)
class Counted:
    """Callbacks that count and log what nobody else is told of."""

    metrics: Metrics
    channels: Channels

    def oversized(self, keys: QueueKeys, count: int) -> None:
        """Bodies went to the dead letters unread."""
        self.metrics.oversized.labels(keys.queue).inc(count)
        self.channels.buried_unread(keys.queue, count)
        log.warning("jobs_too_large", queue=keys.queue, jobs=count)

    def tended(self, keys: QueueKeys, tended: Tended) -> None:
        """Expired claims came back, or delayed jobs fell due."""
        if tended.reaped:
            self.metrics.reaped.labels(keys.queue).inc(tended.reaped)
            log.warning("reaped", queue=keys.queue, jobs=tended.reaped)
        if tended.promoted:
            self.metrics.promoted.labels(keys.queue).inc(tended.promoted)

    def depth(self, keys: QueueKeys, depth: Depth | None) -> None:
        """A queue was read; None: it couldn't be."""
        if depth is None:
            self.metrics.depth(keys.queue, {}, None)
            return
        jobs = {"ready": depth.ready, "delayed": depth.delayed, "in_flight": depth.in_flight, "dead": depth.dead}
        self.metrics.depth(keys.queue, jobs, depth.oldest_s)


@dataclass(frozen=True, slots=True)
class Frame:
    """What nearly every part knows."""

    given: Given
    clock: RedisClock
    held: Held
    slots: Slots
    store: QueueStore
    chains: Chains
    journeys: Journeys
    worker: Worker
    failed: Callable[[str], Failed]


def assemble(given: Given) -> Assembled:
    """Make all parts and introduce them to each other. Opens nothing yet."""
    frame, s, connections = make_frame(given), given.settings, given.connections
    counted = Counted(given.metrics, given.channels)
    breakers = make_breakers(s, tell_of_breakers(given.metrics, given.channels))
    free = frame.worker.free
    models = make_model_side(
        s, connections, given.backend, frame.clock, breakers, frame.chains, given.metrics, free, frame.failed
    )
    claims = connections.once()
    intake = Intake(
        claims,
        frame.store,
        frame.clock,
        s.queues,
        free,
        models.terms,
        frame.journeys.admit,
        frame.failed("claim"),
        counted.oversized,
    )
    models.keeper.claims(intake.slot_free)
    watch = Watch(make_gate(s), frame.slots, given.metrics, intake.slot_free)
    parts = make_parts(frame, intake, models, counted)
    admission = Admission(claims, frame.store, frame.clock)
    frame.journeys.meet(make_neighbours(frame, parts, models, admission, watch))
    frame.worker.assemble(parts)
    peeks = intake.peeks(lambda: connections.peeker(s.job_max_bytes))
    depths = Depths(connections.repeating(), frame.store, list(s.queues), counted.depth, frame.failed("depth"))
    return Assembled(frame.worker, parts.reporter, peeks, models, watch, depths)


def make_frame(given: Given) -> Frame:
    """The parts that need no others."""
    s, clock, held = given.settings, RedisClock(), Held()
    slots = Slots(s.worker_concurrency, clock, s.worker_batch_size)
    chains = make_chains(s)
    rules = Rules(s.queues, s.job_max_bytes, s.max_deliveries, chains, make_limits(s), s.worker_id)
    journeys = Journeys(rules, slots, held, Teller([given.metrics, log_event, *given.channels.hooks]))
    return Frame(
        given=given,
        clock=clock,
        held=held,
        slots=slots,
        store=QueueStore(s.worker_id, make_limits_of_queues(s)),
        chains=chains,
        journeys=journeys,
        worker=Worker(slots, held, journeys),
        failed=Troubles(given.metrics).of,
    )


def make_parts(frame: Frame, intake: Intake, models: ModelSide, counted: Counted) -> Parts:
    """What runs all the time."""
    given, store, held, failed = frame.given, frame.store, frame.held, frame.failed
    connections, queues = given.connections, list(given.settings.queues)
    durability = make_durability(given, failed("durability"))
    settled = frame.journeys.settled
    return Parts(
        intake=intake,
        settler=Settler(connections.once(), store, queues, settled, failed("settle"), durability.settled),
        leases=LeaseKeeper(connections.repeating(), store, held, failed("renew")),
        tender=Tender(connections.repeating(), store, queues, counted.tended, failed("tend")),
        streams=Streams(connections.repeating(), store, failed("stream")),
        cancels=CancelListener(connections.subscriber(), queues, held, failed("cancel"), models.listens),
        reporter=make_reporter(frame, models),
        models=models.keeper,
        embedder=models.embedder,
        durability=durability,
        cached=make_cache(given, failed("cache")),
    )


def make_reporter(frame: Frame, models: ModelSide) -> Reporter:
    """Tells the pool."""
    given, s, worker = frame.given, frame.given.settings, frame.worker
    return Reporter(
        given.connections.repeating(),
        frame.store,
        frame.clock,
        Identity(s.worker_pool, s.worker_id, [keys.queue for keys in s.queues], given.version),
        worker.snapshot,
        worker.drain_wish,
        models.keeper,
        given.gpus.latest,
        frame.failed("report"),
    )


def make_neighbours(frame: Frame, parts: Parts, models: ModelSide, admission: Admission, watch: Watch) -> Neighbours:
    """Whom a job meets on its way."""
    return Neighbours(
        admission=admission,
        runner=make_runner(frame, parts, models),
        reporter=parts.reporter,
        places=models.places,
        embeds_coming=models.embeds_coming,
        now_s=lambda: frame.clock.now_ms() / 1_000,
        models_changed=models.keeper.soon,
        saw=watch.saw,
        settle=parts.settler.put,
        slot_free=parts.intake.slot_free,
        job_delayed=parts.tender.soon,
        check_failed=frame.failed("check"),
    )


def make_runner(frame: Frame, parts: Parts, models: ModelSide) -> Runner:
    """Runs jobs on the backend."""
    given, s = frame.given, frame.given.settings
    budget, retries, asks = make_retry_budget(s), s.ollama_max_retries, models.embeds_coming.discard
    return Runner(
        Asker(given.backend, models.models, frame.chains, models.embedder, budget, retries, asks),
        parts.cached.cache if parts.cached else None,
        given.filters,
        parts.streams,
        frame.clock,
        make_run_limits(s),
        make_retries(s),
        s.worker_id,
    )


def make_durability(given: Given, failed: Failed) -> Durability:
    """Asks whether results are safe, on a connection whose answers may take as long as that is waited for."""
    s = given.settings
    redis = given.connections.once(timeout_s=s.result_durability_timeout / 1_000 + COMMAND_TIMEOUT_S)
    return Durability(redis, Wanted.parse(s.result_durability), s.result_durability_timeout, failed)


@dataclass(frozen=True, slots=True)
class Watch:
    """Passes on what runs show of the server, and holds the worker back while it is busy with others."""

    gate: SaturationGate
    slots: Slots
    metrics: Metrics
    more_free: Callable[[], None]

    def saw(self, ended: Ended) -> None:
        """A run is over. What asked no model, or shared its call, tells nothing of the server."""
        if ended.asked is None or ended.asked.permit is None:
            return
        final, now = ended.final, time.monotonic()
        loaded = final is not None and (final.load_s or 0.0) > LOADED_S
        sample = Sample(
            slot_wait_s=final.slot_wait_s if final else None,
            first_token_s=None if loaded else ended.first_token_s,
            began=now - ended.running_s,
        )
        self._hold(self.gate.observe(now, sample, self.slots.running))

    def waiting(self, count: int | None) -> None:
        """The server told how many requests wait in it."""
        self._hold(self.gate.observe(time.monotonic(), Sample(waiting=count), self.slots.running))

    def _hold(self, allowed: int) -> None:
        more = allowed > self.slots.allowed
        self.slots.allowed = allowed
        self.metrics.guards.saturation(allowed)
        if more:  # else the next claim would wait for a job to end
            self.more_free()


CACHE_S = 1.0
"""What a look at the cache may take, seconds: a model is the other way to the same answer."""
LOADED_S = 0.5
"""A request that waited longer than this for its model tells nothing by its first token, seconds."""


def make_cache(given: Given, failed: Failed) -> Cached | None:
    """Answers that are kept; None: none are."""
    s, guards = given.settings, given.metrics.guards
    if not s.cache_enabled:
        return None

    def counted(outcome: str, answers: int) -> None:
        guards.cache(outcome, answers)

    redis = given.connections.once(timeout_s=CACHE_S)
    ttl_ms, most_bytes = s.cache_ttl, s.cache_max_value_bytes
    store = CacheStore(redis, ttl_ms=ttl_ms, max_value_bytes=most_bytes, counted=counted, failed=failed)
    digests = Digests(given.backend.models) if given.backend.capabilities.lists_models else None
    options = {model: of.options for model, of in s.model_settings.items()}

    def serving(model: str) -> Serving:
        with_default = {"num_predict": s.ollama_num_predict} | options.get(folded(model), {})
        return Serving(s.backend, digests.of(model) if digests else None, with_default)

    return Cached(Cache(store, serving, shared=s.cache_shared), digests)
