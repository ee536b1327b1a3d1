"""What Prometheus answers to an instant query. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .decide.types import Missing

NOT_AN_ANSWER = Missing("PrometheusNotAnAnswer")
_NO_VALUE = Missing("PrometheusNoValue")
_MANY_VALUES = Missing("PrometheusManyValues")
_NOT_A_NUMBER = Missing("PrometheusNotANumber")
_NEGATIVE = Missing("PrometheusNegative")


@dataclass(frozen=True, slots=True)
class Sample:
    """One series' value."""

    labels: Mapping[str, str]
    value: float
    """May be NaN or infinite: Prometheus has those too."""
    at: float
    """The moment it was asked for, Unix seconds by Prometheus' clock; the sample itself may be minutes older."""


def parse_answer(body: bytes) -> tuple[Sample, ...] | Missing:
    """The samples of an instant vector or a scalar. Nothing of the body becomes part of the reason."""
    try:
        answer = json.loads(body)
        if answer["status"] != "success":
            return NOT_AN_ANSWER
        kind, result = answer["data"]["resultType"], answer["data"]["result"]
        if kind == "scalar":
            return (_sample({}, result),)
        if kind != "vector":
            return NOT_AN_ANSWER
        return tuple(_sample(series["metric"], series["value"]) for series in result)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return NOT_AN_ANSWER


def one_value(samples: Sequence[Sample]) -> Fraction | Missing:
    """The one value of a metric's query, exactly as it is written. A load is never negative."""
    if not samples:
        return _NO_VALUE
    if len(samples) > 1:
        return _MANY_VALUES
    value = samples[0].value
    if not math.isfinite(value):
        return _NOT_A_NUMBER
    return Fraction(repr(value)) if value >= 0 else _NEGATIVE


def _sample(labels: Any, value: Any) -> Sample:
    moment, text = value
    if not isinstance(labels, dict) or not isinstance(moment, int | float) or not isinstance(text, str):
        raise TypeError
    if not math.isfinite(moment):
        raise ValueError
    return Sample({str(name): str(of) for name, of in labels.items()}, float(text), float(moment))
