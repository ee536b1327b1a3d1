"""What all sides of LLM Worker Pool agree on: key names, jobs, results, reports, pools."""

from .config import PoolConfig
from .job import Job, JobType, Message, Options
from .keys import PRIORITIES, BadName, PoolKeys, Priority, QueueKeys
from .parsing import BadJob, parse_job
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
