"""Pure decisions: from what was observed to the size a pool should have."""

from .decision import decide, settle_size
from .history import from_dict, record_scale, resumed, to_dict, worth_writing
from .rules import rules_of

__all__ = ["decide", "from_dict", "record_scale", "resumed", "rules_of", "settle_size", "to_dict", "worth_writing"]
