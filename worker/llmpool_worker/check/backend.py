"""Asking the model server: what it has, and whether it really answers. A status page proves nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from llmpool_worker.backends.base import Backend, BackendError, LocalModel, ResidentModel

from .rights import listed
from .rows import Row

SERVER = "model server"


@runtime_checkable
class TellsVersion(Protocol):
    """A backend whose server has a version to tell."""

    async def version(self) -> str | None:
        """None: it doesn't tell."""
        ...


async def check_backend(
    backend: Backend, wanted: Sequence[str], timeout_s: float, now: Callable[[], float] = time.monotonic
) -> list[Row]:
    """All rows about the model server; ``wanted`` are the models that must answer. ``timeout_s``: for each question."""
    rows, there = [], None
    if backend.capabilities.lists_models:
        found = await _asked(backend.models(), timeout_s)
        if isinstance(found, Row):
            return [found]
        there = found
        rows.append(Row.ok(SERVER, f"answers, {len(there)} models"))
    rows.append(await _version(backend, timeout_s))
    resident: list[ResidentModel] | None = None
    if backend.capabilities.manages_models:
        held = await _asked(backend.resident(), timeout_s)
        resident = None if isinstance(held, Row) else held
    rows.append(_in_memory(resident))
    models = list(wanted) or _any_model(resident or [], there or [])
    if not models:
        rows.append(Row.unknown("model", "none to try", "set MODEL_PRELOAD_LIST or ALLOWED_MODELS"))
    # One after the other: models that don't fit together would push each other out.
    return rows + [await _check_model(backend, model, there, timeout_s, now) for model in models]


async def _asked(question: Any, timeout_s: float) -> Any:
    """The answer, or the row that says why there is none."""
    try:
        async with asyncio.timeout(timeout_s):
            return await question
    except BackendError as error:
        return Row.fail(SERVER, error.reason, "look at OLLAMA_BASE_URL, and whether the server runs")
    except TimeoutError:
        return Row.fail(SERVER, f"no answer within {timeout_s:g} s", "look at the server's own log")


async def _version(backend: Backend, timeout_s: float) -> Row:
    name = f"{SERVER} version"
    said = await _asked(backend.version(), timeout_s) if isinstance(backend, TellsVersion) else None
    return Row.ok(name, said) if isinstance(said, str) and said else Row.unknown(name, "not told")


def _in_memory(resident: Sequence[ResidentModel] | None) -> Row:
    name = "models in memory"
    if resident is None:
        return Row.unknown(name, "not told")
    return Row.ok(name, listed([_sized(model) for model in resident]) or "none")


def _sized(model: ResidentModel) -> str:
    if model.size_bytes is None:
        return f"{model.name} (size unknown)"
    gpu = "unknown" if model.gpu_bytes is None else f"{model.gpu_bytes / max(1, model.size_bytes):.0%}"
    return f"{model.name} ({model.size_bytes / 2**20:.0f} MiB, {gpu} on GPUs)"


def _any_model(resident: Sequence[ResidentModel], there: Sequence[LocalModel]) -> list[str]:
    """One that costs little to try: in memory already, else the smallest."""
    if resident:
        return [resident[0].name]
    sized = [(model.size_bytes, model.name) for model in there if model.size_bytes is not None]
    return [min(sized)[1]] if sized else [model.name for model in there[:1]]


async def _check_model(
    backend: Backend, model: str, there: Sequence[LocalModel] | None, timeout_s: float, now: Callable[[], float]
) -> Row:
    name = f"model {model}"
    if there is not None and tagged(model) not in {tagged(one.name) for one in there}:
        return Row.fail(name, "the server doesn't have it", f"ollama pull {model}, or take it off the list")
    begun = now()
    try:
        async with asyncio.timeout(timeout_s):
            await backend.probe(model)
    except NotImplementedError:
        return Row.unknown(name, "this kind of server can't be probed")
    except BackendError as error:
        return Row.fail(name, error.reason, "look at the model server's log")
    except TimeoutError:
        return Row.fail(name, f"no answer within {timeout_s:g} s", "its scheduler may hang: restart the model server")
    return Row.ok(name, f"answered in {now() - begun:.1f} s, a load included where it wasn't in memory")


def tagged(model: str) -> str:
    """A model's name with the tag that an untagged one means. The tag is after the last slash's colon."""
    return model if ":" in model.rsplit("/", 1)[-1] else f"{model}:latest"
