"""For producers: submit jobs, wait for results, follow their text, cancel."""

from llmpool_contract import BadJob, BadName, Job, Message, Options, Priority, Result, Status

from .batches import (
    BadBatch,
    Batch,
    Batches,
    BatchFile,
    BatchState,
    BatchStatus,
    BatchTimeout,
    OtherBatch,
    Outcome,
    RequestState,
    UnknownBatch,
)
from .client import Client
from .dead import DeadLetter, DeadLetters
from .durability import Durability
from .errors import (
    ClientError,
    DurabilityUnavailable,
    NotDurable,
    NotReplayable,
    QueueFull,
    QueueRefused,
    QueueUnavailable,
    ResultTimeout,
    UnknownEntry,
    UnknownJob,
    UnreadableReply,
)
from .queues import QueueState
from .refs import JobRef
from .status import JobStatus
from .streaming import End, Reset, StreamEvent, Text, Thinking
from .sync import SyncClient
from .why import Ask, JobFacts, Place, Progress, Where, WorkersSeen
from .workers import PoolWorkers

__all__ = [
    "Ask",
    "BadBatch",
    "BadJob",
    "BadName",
    "Batch",
    "BatchFile",
    "BatchState",
    "BatchStatus",
    "BatchTimeout",
    "Batches",
    "Client",
    "ClientError",
    "DeadLetter",
    "DeadLetters",
    "Durability",
    "DurabilityUnavailable",
    "End",
    "Job",
    "JobFacts",
    "JobRef",
    "JobStatus",
    "Message",
    "NotDurable",
    "NotReplayable",
    "Options",
    "OtherBatch",
    "Outcome",
    "Place",
    "PoolWorkers",
    "Priority",
    "Progress",
    "QueueFull",
    "QueueRefused",
    "QueueState",
    "QueueUnavailable",
    "RequestState",
    "Reset",
    "Result",
    "ResultTimeout",
    "Status",
    "StreamEvent",
    "SyncClient",
    "Text",
    "Thinking",
    "UnknownBatch",
    "UnknownEntry",
    "UnknownJob",
    "UnreadableReply",
    "Where",
    "WorkersSeen",
]
