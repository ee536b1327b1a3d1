"""Which models may be asked, and which one in place of another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, TypeAdapter, ValidationError, field_validator, model_validator

from llmpool_contract import env
from llmpool_contract.job import ModelName
from llmpool_contract.models import folded, is_cloud
from llmpool_worker.routing import AllowedModels

_D = env.DEFAULTS

MAX_FALLBACKS = 8
"""As many as a job may name."""


class RoutingSettings(BaseModel):
    """Models and their fallbacks."""

    allowed_models: str = str(_D[env.ALLOWED_MODELS])
    """Comma-separated exact names; `m` is `m:latest`. Jobs for others are refused. Unset or `*`: any local model.
    Models that Ollama runs elsewhere (`:cloud`) are never allowed"""
    model_fallbacks: str = ""
    """What to ask where a model is missing, can't be loaded, keeps failing or has an open breaker, for jobs without
    `fallback_models`: `big:70b=small:8b,other;next=...`, or JSON, `{"big:70b": ["small:8b"]}`. Only the first model's
    entry is looked at, fallbacks have none of their own"""

    @field_validator("allowed_models", mode="before")
    @classmethod
    def _one_text(cls, value: Any) -> Any:
        return ",".join(map(str, value)) if isinstance(value, list | tuple) else value

    @field_validator("model_fallbacks", mode="before")
    @classmethod
    def _json_text(cls, value: Any) -> Any:
        return json.dumps(value) if isinstance(value, dict) else value

    @field_validator("allowed_models")
    @classmethod
    def _names(cls, value: str) -> str:
        read_allowed(value)
        return value

    @field_validator("model_fallbacks")
    @classmethod
    def _mapping(cls, value: str) -> str:
        read_fallbacks(value)
        return value

    @model_validator(mode="after")
    def _fallbacks_are_allowed(self) -> Self:
        for names in self.fallbacks.values():
            for name in names:
                if reason := self.allowed.refusal(name):
                    raise ValueError(f"MODEL_FALLBACKS: {reason}")
        return self

    @property
    def allowed(self) -> AllowedModels:
        """ALLOWED_MODELS as a rule."""
        return AllowedModels(read_allowed(self.allowed_models))

    @property
    def allowed_names(self) -> tuple[str, ...]:
        """ALLOWED_MODELS by name; empty: any."""
        return read_allowed(self.allowed_models)

    @property
    def fallbacks(self) -> Mapping[str, tuple[str, ...]]:
        """MODEL_FALLBACKS as a mapping."""
        return read_fallbacks(self.model_fallbacks)


def read_allowed(text: str) -> tuple[str, ...]:
    """Read ALLOWED_MODELS; empty: any. Raises ValueError that names the part at fault."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if parts == ["*"]:
        return ()
    if text.strip() and not parts:
        raise ValueError("no name in it: unset it, or set it to *, where any model is allowed")
    names = tuple(_model(part) for part in parts)
    if cloud := next((name for name in names if is_cloud(name)), None):
        raise ValueError(f"{cloud}: Ollama would send it to a server outside, which is never allowed")
    return names


def read_fallbacks(text: str) -> dict[str, tuple[str, ...]]:
    """Read MODEL_FALLBACKS in either of its forms. Raises ValueError that names the part at fault."""
    text = text.strip()
    given = _from_json(text) if text.startswith("{") else _from_pairs(text)
    found: dict[str, tuple[str, ...]] = {}
    for model, names in given:
        if folded(_model(model)) in map(folded, found):
            raise ValueError(f"{model} is there twice")
        if not 1 <= len(names) <= MAX_FALLBACKS:
            raise ValueError(f"{model}: got {len(names)} fallbacks, allowed are 1 to {MAX_FALLBACKS}")
        found[model] = tuple(_model(name) for name in names)
    return found


def _from_json(text: str) -> list[tuple[str, list[str]]]:
    try:
        pairs: list[tuple[str, Any]] = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError):
        raise ValueError('not JSON: wanted {"model": ["fallback", ...]}') from None
    for model, names in pairs:
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{model}: wanted a list of names")
    return pairs


def _from_pairs(text: str) -> list[tuple[str, list[str]]]:
    pairs = []
    for part in (part.strip() for part in text.split(";") if part.strip()):
        model, equals, names = part.partition("=")
        if not equals:
            raise ValueError(f"{part!r}: wanted model=fallback,fallback")
        pairs.append((model.strip(), [name.strip() for name in names.split(",") if name.strip()]))
    return pairs


def _model(name: str) -> str:
    try:
        return TypeAdapter(ModelName).validate_python(name)
    except ValidationError:
        raise ValueError(f"{name[:60]!r} is no model's name") from None
