"""What a pool's decision asks of others than Redis."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Questions:
    """For one pool."""

    prometheus: str | None = None
    """The server's address. None: the pool has none."""
    queries: tuple[str, ...] = ()
    """Those of its metrics of type Prometheus."""
    gpu_query: str | None = None
    """What to ask for the GPUs' readings where no worker tells any. None: nobody can be asked."""
    shared_server: bool = True
    """Whether the workers share one model server, and so its GPUs."""
    gpu_decides: bool = False
    """Whether a metric goes by the GPUs' readings. Else they are only told, and may be older."""
