"""What all sides of LLM Worker Pool agree on: key names, jobs, results, reports, pools."""

from .config import PoolConfig
from .job import Job, JobType, Message, Options
from .keys import PRIORITIES, BackendKeys, BadName, PoolKeys, Priority, QueueKeys
from .parsing import BadJob, parse_job
from .report import GPUReport, ModelReport, WorkerReport, WorkerState
from .result import JobError, Result, Status, Timings, Usage

__all__ = [
    "PRIORITIES",
    "BackendKeys",
    "BadJob",
    "BadName",
    "GPUReport",
    "Job",
    "JobError",
    "JobType",
    "Message",
    "ModelReport",
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
