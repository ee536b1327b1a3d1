"""Batches: files of requests in OpenAI's Batch format, run as jobs of one queue."""

from .batches import Batches
from .counts import BatchState, BatchStatus, Counts, RequestState
from .entries import check_bodies
from .errors import BadBatch, BatchTimeout, OtherBatch, UnknownBatch
from .file import BatchFile, examine
from .outcomes import Outcome
from .record import Batch
from .requests import job_fields
from .responses import body_of, line_of
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
    "body_of",
    "check_bodies",
    "examine",
    "job_fields",
    "line_of",
]
