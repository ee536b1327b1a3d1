"""Why a pool has its size: the sentences of conditions and Events, and the page made from a status. Pure."""

from .findings import findings
from .freshness import Leader
from .page import Explanation
from .reading import explain
from .text import Line, lines

__all__ = ["Explanation", "Leader", "Line", "explain", "findings", "lines"]
