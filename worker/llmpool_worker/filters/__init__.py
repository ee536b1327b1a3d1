"""Limits on jobs, and rules on what they ask and what is answered."""

from .build import make_filters, make_limits
from .findings import Counted
from .front import Blocked, Filters, Passed
from .limits import Limits, exceeded
from .output import OutputFilter, Rest
from .rules import RulesError

__all__ = [
    "Blocked",
    "Counted",
    "Filters",
    "Limits",
    "OutputFilter",
    "Passed",
    "Rest",
    "RulesError",
    "exceeded",
    "make_filters",
    "make_limits",
]
