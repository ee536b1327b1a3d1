"""What a worker can be told, by environment variables or a file of the same names, checked once at the start.

Durations are milliseconds, as the first users' documents have them. Names and defaults that others share are the
contract's (``llmpool_contract.env``). One file per theme; a setting's docstring is its entry in
``docs/configuration.md`` (``tools/configuration``), where ``[unit]`` at its beginning is the unit that its name doesn't
tell.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as BadSource

from .backend import BackendSettings
from .breaker import BreakerSettings
from .cache import CacheSettings
from .durability import DurabilitySettings
from .embedding import EmbeddingSettings
from .fairness import FairnessSettings
from .file import BadConfigFile, ConfigFileSettings
from .filters import FilterSettings
from .jobs import JobSettings
from .models import ModelSettings
from .pressure import PressureSettings
from .redis import RedisSettings, check_redis_url
from .routing import RoutingSettings
from .serving import ServingSettings
from .sources import ConfigFile, SecretFiles, is_secret, misspelt, origin_of
from .telemetry import TelemetrySettings
from .worker import WorkerSettings, read_queues

__all__ = ["Settings", "SettingsError", "check_redis_url", "load", "misspelt_variables", "read_queues"]


class SettingsError(ValueError):
    """The settings can't be run with: each line names a variable, what was given and what is allowed."""


# The last base's fields come first.
class Settings(
    ConfigFileSettings,
    ServingSettings,
    TelemetrySettings,
    FairnessSettings,
    PressureSettings,
    BreakerSettings,
    DurabilitySettings,
    CacheSettings,
    EmbeddingSettings,
    FilterSettings,
    JobSettings,
    RoutingSettings,
    ModelSettings,
    BackendSettings,
    WorkerSettings,
    RedisSettings,
    BaseSettings,
):
    """One worker's settings. Field names are the environment variables in lower case."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True)

    @property
    def log_file(self) -> Path | None:
        """Where the log is written to beside stderr: a file for each worker, since several share a volume."""
        return None if self.log_dir is None else self.log_dir / f"{self.worker_id}.log"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The first that has a setting decides it."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, SecretFiles(settings_cls), ConfigFile(settings_cls)


def load(values: dict[str, Any] | None = None) -> Settings:
    """Settings from the environment and the file, ``values`` before them.

    Raises:
        SettingsError: with every fault in it.
    """
    try:
        return Settings(**(values or {}))
    except BadConfigFile as error:
        raise SettingsError(str(error)) from None
    except BadSource as error:  # a variable that should hold JSON, and doesn't
        raise SettingsError(_not_json(str(error))) from None
    except ValidationError as error:
        raise SettingsError("\n".join(_fault(f) for f in error.errors(include_url=False))) from None


def misspelt_variables() -> dict[str, str]:
    """Environment variables that nobody reads, and what each was probably meant to be."""
    return misspelt(os.environ, Settings.model_fields)


def _not_json(text: str) -> str:
    """In our words; pydantic's names the field, and only that."""
    found = re.search(r'field "(\w+)"', text)
    return f"{found[1].upper() if found else 'a setting'}: got a value that isn't JSON, wanted an object such as {{}}"


_MAY_HOLD_A_PASSWORD = {"filter_hook_url", "ollama_base_url", "otel_exporter_otlp_endpoint"}


def _fault(fault: Any) -> str:
    message = str(fault["msg"]).removeprefix("Value error, ")
    if not fault["loc"]:
        return message
    name = str(fault["loc"][0])
    field = Settings.model_fields.get(name)
    hidden = name in _MAY_HOLD_A_PASSWORD or (field is not None and is_secret(field))
    shown = "a value that isn't shown" if hidden else repr(fault["input"])
    where = ".".join([name.upper(), *(str(part) for part in fault["loc"][1:])])
    return f"{origin_of(Settings, name)}{where}: got {shown}: {message}"
