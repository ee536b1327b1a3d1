"""Which models may be asked, which are kept in memory, and how workers share a server."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict, Field, field_validator

from llmpool_contract import env
from llmpool_contract.models import folded, is_cloud

from .units import HOUR_MS

_D = env.DEFAULTS
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,252}")


class PerModel(BaseModel):
    """What one model is run with."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    max_in_flight: int | None = Field(default=None, ge=1, le=1_024)
    """Requests of it that all workers of a server together have under way. None: OLLAMA_NUM_PARALLEL."""
    options: dict[str, int | float | bool | str] = Field(default_factory=dict, max_length=64)
    """Runner options (``num_ctx``, ``num_gpu``, ...), the same in every request, so that no job reloads the model."""


class ModelSettings(BaseModel):
    """Models."""

    model_preload_enabled: bool = bool(_D[env.MODEL_PRELOAD_ENABLED])
    """Whether `MODEL_PRELOAD_LIST` is loaded at the start and kept"""
    model_preload_list: str = str(_D[env.MODEL_PRELOAD_LIST])
    """Comma-separated names of models to load before any job asks, and to keep. A pool's `preload` list comes before
    it, and may change without a restart"""
    model_memory_threshold: float = Field(default=float(_D[env.MODEL_MEMORY_THRESHOLD]), gt=0, le=1)
    """Share of the server's memory that models may take together: beyond, one is unloaded before another is loaded.
    Needs a total: `MODEL_MEMORY_BYTES`, or a card that NVML shows beside a server on this host; without one the worker
    learns from what happens which models fit together"""
    model_memory_bytes: int | None = Field(default=None, ge=1, le=2**50)
    """Memory that the server has for models: its GPUs', or the machine's"""
    ollama_max_loaded_models: int | None = Field(default=None, ge=1, le=1_000)
    """[models] The server's own limit, where it has one: give both the same variable"""
    ollama_num_parallel: int | None = Field(default=None, ge=1, le=1_024)
    """[requests] Requests of one model that all workers of a server together have under way; give the server the same
    variable. Unset: each worker's own slots are the only bound"""
    model_management: bool = True
    """Whether the worker loads and unloads models and takes jobs by what is in memory (Ollama only). `false`: in the
    queue's order, and the server does as it likes"""
    model_max_wait: int = Field(default=60_000, ge=0, le=24 * HOUR_MS)
    """Jobs that are passed over because their model isn't in memory are passed over for so long at most"""
    model_quantum: int = Field(default=30_000, ge=0, le=24 * HOUR_MS)
    """What a model gets of the server while jobs of another one wait"""
    model_load_timeout: int = Field(default=600_000, ge=1_000, le=24 * HOUR_MS)
    """One load, and one step of a download. A load is a call of its own: no job's time limit ends it"""
    model_idle_timeout: int = Field(default=300_000, ge=0, le=24 * HOUR_MS)
    """After so long without a job a model is unloaded, but for those of a preload list. 0: never"""
    model_pull: bool = False
    """Whether a model that the server lacks is downloaded; else its jobs fail (`model_not_found`) or fall back"""
    model_pull_registries: str = "registry.ollama.ai"
    """Comma-separated hosts that models may be downloaded from"""
    model_settings: dict[str, PerModel] = Field(default_factory=dict)
    """JSON: model -> `max_in_flight` (as `OLLAMA_NUM_PARALLEL`, for this model) and `options` (runner options such as
    `num_ctx`, sent with every request, so that no job makes the server load the model anew)"""

    @field_validator("model_preload_list")
    @classmethod
    def _names(cls, value: str) -> str:
        model_list(value)
        return value

    @field_validator("model_settings")
    @classmethod
    def _folded_names(cls, value: dict[str, PerModel]) -> dict[str, PerModel]:
        for name in value:
            model_list(name)
        return {folded(name): of for name, of in value.items()}

    @property
    def preload(self) -> tuple[str, ...]:
        """MODEL_PRELOAD_LIST as folded names, in order; empty where preloading is off."""
        return tuple(folded(name) for name in model_list(self.model_preload_list)) if self.model_preload_enabled else ()


def model_list(text: str) -> list[str]:
    """Comma-separated names of models. Raises ValueError, naming the one at fault."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if not _MODEL_NAME.fullmatch(name):
            raise ValueError(f"got {name[:60]!r}, wanted a model's name such as gemma3:270m")
        if is_cloud(name):
            raise ValueError(f"got {name!r}: Ollama would send prompts to a server outside")
    return names
