"""For producers: submit jobs, wait for results, follow their text, cancel."""

from llmpool_contract import BadJob, BadName, Job, Message, Options, Priority, Result, Status

from .client import Client
from .dead import DeadLetter, DeadLetters
from .errors import (
    ClientError,
    NotReplayable,
    QueueRefused,
    QueueUnavailable,
    ResultTimeout,
    UnknownEntry,
    UnknownJob,
    UnreadableReply,
)
from .queues import QueueState
from .status import JobStatus
from .streaming import End, Reset, StreamEvent, Text, Thinking
from .submitting import JobRef
from .sync import SyncClient

__all__ = [
    "BadJob",
    "BadName",
    "Client",
    "ClientError",
    "DeadLetter",
    "DeadLetters",
    "End",
    "Job",
    "JobRef",
    "JobStatus",
    "Message",
    "NotReplayable",
    "Options",
    "Priority",
    "QueueRefused",
    "QueueState",
    "QueueUnavailable",
    "Reset",
    "Result",
    "ResultTimeout",
    "Status",
    "StreamEvent",
    "SyncClient",
    "Text",
    "Thinking",
    "UnknownEntry",
    "UnknownJob",
    "UnreadableReply",
]
