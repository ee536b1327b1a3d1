"""Where settings come from, the first that has one winning: arguments, environment, secrets' files, the YAML file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource

from .file import BadConfigFile, find_config, like, read_config

FILE = "_file"
"""Ending of the variables that name a secret's file: REDIS_PASSWORD_FILE."""


class SecretFiles(PydanticBaseSettingsSource):
    """``NAME_FILE`` in the environment names a file with the value of the secret ``NAME``, as Docker mounts them."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        path = _environ().get(field_name + FILE) if is_secret(field) else None
        return read_secret(field_name, path) if path else None, field_name, False

    def __call__(self) -> dict[str, Any]:
        fields = self.settings_cls.model_fields
        found = {name: self.get_field_value(field, name)[0] for name, field in fields.items()}
        return {name: value for name, value in found.items() if value}


class ConfigFile(PydanticBaseSettingsSource):
    """The YAML file."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self().get(field_name), field_name, self.field_is_complex(field)

    def __call__(self) -> dict[str, Any]:
        path = find_config(os.environ)
        if path is None:
            return {}
        fields = self.settings_cls.model_fields.items()
        return read_config(path, {name: self.field_is_complex(f) and NoDecode not in f.metadata for name, f in fields})


def read_secret(name: str, path: str) -> str:
    """A secret from its file, without the line end that editors leave. Raises BadConfigFile."""
    variable = (name + FILE).upper()
    if _environ().get(name):
        raise BadConfigFile(f"{variable}: {name.upper()} is set too, wanted one of the two")
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise BadConfigFile(f"{variable}: got {path!r}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadConfigFile(f"{variable}: got {path!r}: not UTF-8") from None


def is_secret(field: FieldInfo) -> bool:
    """Whether a setting's value must never be shown."""
    return SecretStr in (field.annotation, *get_args(field.annotation))


def origin_of(settings: type[BaseSettings], name: str) -> str:
    """Where a field's value came from, to put before its name in an error; empty: the environment."""
    if _environ().get(name) or _environ().get(name + FILE):
        return ""
    path = find_config(os.environ)
    return f"{path}: " if path and name in ConfigFile(settings)() else ""


def misspelt(environ: Iterable[str], fields: Mapping[str, FieldInfo]) -> dict[str, str]:
    """Variables that nobody reads, and what each was probably meant to be. Pure."""
    known: dict[str, Any] = {**fields, **{name + FILE: None for name, field in fields.items() if is_secret(field)}}
    strangers = [name for name in environ if name.lower() not in known]
    return {name: alike.upper() for name in strangers if (alike := like(name, known))}


def _environ() -> dict[str, str]:
    """The environment with lower-case names, as fields are."""
    return {name.lower(): value for name, value in os.environ.items()}
