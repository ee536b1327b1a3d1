"""Telling: data handed to hooks that can never fail a job."""

from .events import Hook, JobEvent, Teller

__all__ = ["Hook", "JobEvent", "Teller"]
