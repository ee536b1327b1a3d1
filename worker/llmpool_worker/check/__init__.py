"""``llmpool-worker --check``: would a worker with these settings do its work? Tried on the real parts, row by row."""

from __future__ import annotations

from collections.abc import Mapping

from redis.exceptions import RedisError

from llmpool_contract import BackendKeys, PoolKeys
from llmpool_contract.models import folded
from llmpool_worker.backends import Backend
from llmpool_worker.durability import Wanted, why_not
from llmpool_worker.filters import RulesError, make_filters
from llmpool_worker.queue.connections import Connections
from llmpool_worker.settings import Settings
from llmpool_worker.settings.models import model_list

from .backend import check_backend
from .redis import check_redis
from .rows import Row, State, as_json, as_text, failed

__all__ = ["Row", "State", "as_json", "as_text", "check_all", "failed", "settings_rows", "wanted_models"]


async def check_all(settings: Settings, backend: Backend, misspelt: Mapping[str, str]) -> list[Row]:
    """Every row. Closes ``backend``."""
    rows = settings_rows(misspelt) + _rules_rows(settings)
    pool, server = PoolKeys(settings.worker_pool), BackendKeys.of(settings.ollama_base_url)
    rows += await check_redis(settings.redis_address, list(settings.queues), pool, server)
    rows += await _check_durability(settings)
    try:
        return rows + await check_backend(backend, wanted_models(settings), settings.ollama_timeout / 1_000)
    finally:
        await backend.aclose()


def _rules_rows(settings: Settings) -> list[Row]:
    """A row where there is a file of content rules."""
    if settings.filter_rules is None:
        return []
    try:
        make_filters(settings)
    except RulesError as error:
        return [Row.fail("content rules", " ".join(str(error).split()), "look at FILTER_RULES")]
    return [Row.ok("content rules", "all can be used")]


async def _check_durability(settings: Settings) -> list[Row]:
    """A row where results are to be confirmed."""
    wanted = Wanted.parse(settings.result_durability)
    if wanted == Wanted():
        return []
    connections = Connections(settings.redis_address)
    try:
        reason = await why_not(connections.once(), wanted)
    except (RedisError, OSError) as error:
        return [Row.unknown("durability", f"{type(error).__name__}", "see the rows about Redis")]
    finally:
        await connections.aclose()
    if reason:
        return [Row.fail("durability", reason, "or set RESULT_DURABILITY=none")]
    return [Row.ok("durability", f"{settings.result_durability} can be confirmed")]


def settings_rows(misspelt: Mapping[str, str]) -> list[Row]:
    """That the settings can be used, and which variables nobody reads."""
    advice = "nobody reads it"
    return [
        Row.ok("settings", "all can be used"),
        *(Row.warn("settings", f"{name}: did you mean {meant}?", advice) for name, meant in misspelt.items()),
    ]


def wanted_models(settings: Settings) -> list[str]:
    """The models that this worker is told to serve or to load, each once. Empty: it takes any."""
    listed = model_list(settings.model_preload_list) if settings.model_preload_enabled else []
    names = {folded(name): name for name in (*listed, *settings.allowed_names)}  # as written: others know no tags
    return list(names.values())
