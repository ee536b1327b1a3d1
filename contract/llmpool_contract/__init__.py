"""What all sides of LLM Worker Pool agree on: key names, jobs, results, reports, pools."""

from .config import PoolConfig
from .job import BadJob, Job, JobType, Message, Options, parse_job
from .keys import PRIORITIES, BadName, PoolKeys, Priority, QueueKeys
from .report import GPUReport, WorkerReport, WorkerState
from .result import JobError, Result, Status, Timings, Usage

__all__ = [
    "PRIORITIES",
    "BadJob",
    "BadName",
    "GPUReport",
    "Job",
    "JobError",
    "JobType",
    "Message",
    "Options",
    "PoolConfig",
    "PoolKeys",
    "Priority",
    "QueueKeys",
    "Result",
    "Status",
    "Timings",
    "Usage",
    "WorkerReport",
    "WorkerState",
    "parse_job",
]
