"""Why a job isn't done yet: its facts as of one moment, gathered from Redis."""

from .facts import Ask, JobFacts, Place, Progress, Where, WorkersSeen
from .gather import FactFinder

__all__ = ["Ask", "FactFinder", "JobFacts", "Place", "Progress", "Where", "WorkersSeen"]
