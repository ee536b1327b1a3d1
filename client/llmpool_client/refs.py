"""What names a submitted job."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JobRef:
    """A submitted job: what the other calls take."""

    id: str
    queue: str
    duplicate: bool = False
    """The id was known already and nothing was pushed: another submit, or this one after its reply was lost."""
