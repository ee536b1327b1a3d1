"""On what ``llmpool submit`` insists: room in the queue, and a confirmation that the job is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from llmpool_client import Durability

MaxQueued = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="Refuse where more than N jobs would wait in the queue.")
]
Durable = Annotated[bool, typer.Option("--durable", help="Have Redis confirm that the job is on its disk.")]
Replicas = Annotated[
    int, typer.Option(min=0, metavar="N", help="Have N replicas confirm the job; with --durable, on their disks.")
]


@dataclass(frozen=True, slots=True)
class Terms:
    """On what a submit insists."""

    max_queued: int | None
    durable: bool
    replicas: int

    def durability(self) -> Durability | None:
        """None: none is asked for."""
        wanted = self.durable or self.replicas
        return Durability(local=int(self.durable), replicas=self.replicas) if wanted else None
