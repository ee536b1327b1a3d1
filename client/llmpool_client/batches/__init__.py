"""Batches: files of requests in OpenAI's Batch format, run as jobs of one queue."""

from .batches import Batches
from .counts import BatchState, BatchStatus, Counts, RequestState
from .entries import check_bodies
from .errors import BadBatch, BatchTimeout, OtherBatch, UnknownBatch
from .file import BatchFile, examine
from .outcomes import Outcome
from .record import Batch
from .responses import line_of
from .sync import SyncBatches

__all__ = [
    "BadBatch",
    "Batch",
    "BatchFile",
    "BatchState",
    "BatchStatus",
    "BatchTimeout",
    "Batches",
    "Counts",
    "OtherBatch",
    "Outcome",
    "RequestState",
    "SyncBatches",
    "UnknownBatch",
    "check_bodies",
    "examine",
    "line_of",
]
