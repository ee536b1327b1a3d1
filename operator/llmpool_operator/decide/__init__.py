"""Pure decisions: from what was observed to the size a pool should have."""

from .decision import Known, conclude, decide
from .history import from_dict, record_scale, resumed, to_dict, worth_writing
from .outcome import settle_size
from .rules import rules_of
from .schedules import bounds_at, fault_in_schedules

__all__ = [
    "Known",
    "bounds_at",
    "conclude",
    "decide",
    "fault_in_schedules",
    "from_dict",
    "record_scale",
    "resumed",
    "rules_of",
    "settle_size",
    "to_dict",
    "worth_writing",
]
