"""What every part of a pool's document is made of: strictness, numbers as Kubernetes writes them, names."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic.alias_generators import to_camel

from llmpool_contract.models import is_cloud

MAX_REPLICAS = 10_000
LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
SUBDOMAIN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
MODEL = r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$"
MODEL_MAX = 253
"""Characters of a model's name, as in a job."""
QUALIFIED_NAME = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
"""The key of a label or an annotation, the name of a resource: Kubernetes' own rule, but for the prefix's length."""
HTTP_URL = r"^https?://([^@\s?#/:\[\]]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?(/[^@\s?#]*)?$"
_QUANTITY = r"^[0-9]{1,12}(\.[0-9]{1,9})?(m|k)?$"
_RESOURCE = r"^[0-9]{1,18}(\.[0-9]{1,9})?([numkMGTPE]|[KMGTPE]i)?$"
_SCALE = {"m": Decimal("0.001"), "": Decimal(1), "k": Decimal(1000)}


def decimal(value: Any) -> Any:
    """Numbers by their shortest decimal form, so that YAML's 0.2 is a fifth. Anything else goes on unread."""
    if isinstance(value, float | int) and not isinstance(value, bool):
        return Decimal(repr(value))
    return value


def _quantity(value: Any) -> Any:
    """A Kubernetes quantity: a number, or a string such as ``"50m"``, which is how the API server writes 0.05."""
    if not isinstance(value, str):
        return decimal(value)
    if not re.fullmatch(_QUANTITY, value):
        raise ValueError(f"got {value[:40]!a}, wanted a number such as 0.05 or a quantity such as '50m'")
    digits = value.rstrip("mk")
    return Decimal(digits) * _SCALE[value[len(digits) :]]


def _resource_amount(value: Any) -> Any:
    if isinstance(value, bool | float) or not re.fullmatch(_RESOURCE, str(value)):
        raise ValueError(f"got {str(value)[:40]!a}, wanted a whole number or a string such as '500m' or '8Gi'")
    return value


def not_elsewhere(name: str) -> str:
    """Raise ValueError for a model that Ollama runs elsewhere; the worker refuses it, too."""
    if is_cloud(name):
        raise ValueError(f"got {name!a}, a cloud model: Ollama would send prompts to a server outside, never allowed")
    return name


_QUANTITY_SCHEMA = Field(json_schema_extra={"pattern": _QUANTITY})
PerWorker = Annotated[Decimal, Field(gt=0, le=1_000_000), BeforeValidator(_quantity), _QUANTITY_SCHEMA]
Target = Annotated[Decimal, Field(gt=0, le=10**12), BeforeValidator(_quantity), _QUANTITY_SCHEMA]
Tolerance = Annotated[Decimal, Field(ge=0, le=1000), BeforeValidator(_quantity), _QUANTITY_SCHEMA]
Count = Annotated[int, Field(ge=1, le=2_147_483_647)]
ResourceAmount = Annotated[
    str | int, BeforeValidator(_resource_amount), WithJsonSchema({"pattern": _RESOURCE, "minimum": 0})
]
ModelName = Annotated[str, Field(min_length=1, max_length=MODEL_MAX, pattern=MODEL), AfterValidator(not_elsewhere)]
"""A model of a server of the pool's own."""


class Part(BaseModel):
    """A mapping whose fields are known, typed and never null."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, alias_generator=to_camel, allow_inf_nan=False, validate_default=True
    )

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_null(cls, value: Any) -> Any:
        if isinstance(value, dict) and (nulls := [str(key) for key, given in value.items() if given is None]):
            raise ValueError(f"{', '.join(nulls)}: null is no value, leave the field out")
        return value


class Service(Part):
    """A Service in the pool's own namespace."""

    name: str = Field(max_length=63, pattern=LABEL)
    port: int = Field(ge=1, le=65_535)

    def url_from(self, namespace: str) -> str:
        """Its address over HTTP, as seen from any namespace of the cluster."""
        return f"http://{self.name}.{namespace}.svc:{self.port}"


def refuse_twice(field: str, names: list[str]) -> None:
    """Raise ValueError where a name is there more than once."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{field}: {', '.join(twice)}: there more than once")


def check_exactly_one(**given: object) -> None:
    """Raise ValueError unless one of these fields, and only one, was given."""
    there = [name for name, value in given.items() if value is not None]
    if len(there) == 1:
        return
    names = list(given)
    wanted = f"{', '.join(names[:-1])} and {names[-1]}"
    got = {0: "neither" if len(names) == 2 else "none", len(names): "both" if len(names) == 2 else "all"}
    raise ValueError(f"got {got.get(len(there), ' and '.join(there))} of {wanted}, wanted exactly one")
