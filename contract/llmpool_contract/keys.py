"""Every Redis key that more than one program touches. Nobody else spells one.

For a queue ``q`` every key but the three ready lists starts with ``{q}``: the braces are Redis Cluster's hash tag,
so all of a queue's keys share the slot of ``q`` itself and one script may touch them together.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Literal

Priority = Literal["high", "normal", "low"]
PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")

DEFAULT_QUEUES = {"llm-chat": "chat", "llm-generate": "generate", "llm-embed": "embed"}

_NAMES = (
    *("high", "low", "claimed", "lease", "delayed", "dead", "stats", "events", "cancels"),
    *("waiting", "turns", "used", "limits"),
)
"""Keys that are named as their fields are."""

_QUEUE_NAME = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class BadName(ValueError):
    """A queue's or pool's name that can't be part of a Redis key."""


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """The keys of one queue. Fields are whole key names, methods take a job's id."""

    queue: str
    high: str = field(init=False)
    low: str = field(init=False)
    claimed: str = field(init=False)
    """HASH handle -> element (``element.py``) with the worker's name in it. HLEN is what is in flight."""
    lease: str = field(init=False)
    """ZSET handle -> end of the lease, Unix ms by Redis' clock."""
    delayed: str = field(init=False)
    """ZSET element -> when it is due, Unix ms by Redis' clock."""
    dead: str = field(init=False)
    """STREAM of dead letters, capped in entries and in bytes."""
    stats: str = field(init=False)
    """HASH of counters that must be exact: ``dead_bytes``, ``dead_evicted``, ``dropped_duplicates``, ..."""
    events: str = field(init=False)
    """PUBSUB channel: the id of each job as it settles."""
    cancels: str = field(init=False)
    """PUBSUB channel: the id of each job that somebody wishes to cancel, so that its worker needn't poll."""
    waiting: str = field(init=False)
    """HASH model -> Unix ms since when its jobs have been passed over, because the model isn't in memory."""
    turns: str = field(init=False)
    """ZSET tenant -> Unix ms of its last claim: whose turn it is."""
    used: str = field(init=False)
    """HASH of what tenants used in this minute and the last one, where limits are set."""
    limits: str = field(init=False)
    """HASH of what producers keep to: ``max_queued``, the most jobs that may wait."""

    def __post_init__(self) -> None:
        if not _QUEUE_NAME.fullmatch(self.queue):
            raise BadName(
                f"queue name: got {self.queue!r}, allowed are 1 to 128 letters, digits, '.', '_', ':' and '-'"
            )
        for name in _NAMES:
            object.__setattr__(self, name, f"{{{self.queue}}}:{name}")

    @property
    def normal(self) -> str:
        """LIST of ready jobs at normal priority: the queue's own name, so that any language can produce."""
        return self.queue

    @property
    def ready(self) -> tuple[str, str, str]:
        """The three ready lists, high priority first; their lengths add up to the backlog that is ready now."""
        return (self.high, self.queue, self.low)

    def list_of(self, priority: Priority) -> str:
        """The ready list of a priority."""
        return self.queue if priority == "normal" else f"{{{self.queue}}}:{priority}"

    def id(self, job_id: str) -> str:
        """STRING with TTL: ``queued`` or ``mark.py``'s mark of the live job of this id: makes an id idempotent."""
        return f"{{{self.queue}}}:ids:{job_id}"

    def result(self, job_id: str) -> str:
        """STRING with TTL: the result's JSON."""
        return f"{{{self.queue}}}:result:{job_id}"

    def stream(self, job_id: str) -> str:
        """STREAM with TTL: the answer's text as it comes."""
        return f"{{{self.queue}}}:stream:{job_id}"

    def cancel(self, job_id: str) -> str:
        """STRING with TTL: somebody wishes this job cancelled."""
        return f"{{{self.queue}}}:cancel:{job_id}"

    def cache(self, digest: str) -> str:
        """STRING with TTL: an answer, under the hash of all that decides it. Workers alone know its form."""
        return f"{{{self.queue}}}:cache:{digest}"

    def settled(self, token: str) -> str:
        """STRING with a short TTL: what one settle call answered, for a repeat of the same call."""
        return f"{{{self.queue}}}:settled:{token}"

    @property
    def batches(self) -> str:
        """ZSET batch id -> end of its record's life, Unix ms by Redis' clock."""
        return f"{{{self.queue}}}:batches"

    def batch(self, batch_id: str) -> str:
        """HASH with TTL: a batch's record."""
        return f"{{{self.queue}}}:batch:{batch_id}"

    def batch_ids(self, batch_id: str) -> str:
        """LIST with TTL: the custom ids of a batch's requests, in its file's order."""
        return f"{{{self.queue}}}:batch:{batch_id}:ids"

    def batch_faults(self, batch_id: str) -> str:
        """HASH with TTL: custom id of a request that can't be run -> why, as JSON."""
        return f"{{{self.queue}}}:batch:{batch_id}:faults"


@dataclass(frozen=True, slots=True)
class PoolKeys:
    """The keys of one pool, named ``namespace/name``."""

    pool: str

    def __post_init__(self) -> None:
        namespace, _, name = self.pool.partition("/")
        if not (_QUEUE_NAME.fullmatch(namespace) and _QUEUE_NAME.fullmatch(name)):
            raise BadName(f"pool name: got {self.pool!r}, wanted namespace/name in letters, digits, '.', '_' and '-'")

    @property
    def workers(self) -> str:
        """HASH worker -> WorkerReport as JSON."""
        return f"{{pool:{self.pool}}}:workers"

    @property
    def config(self) -> str:
        """HASH: what the operator tells the workers (``config.py``)."""
        return f"{{pool:{self.pool}}}:config"


@dataclass(frozen=True, slots=True)
class BackendKeys:
    """The keys by which workers that share one model server meet. ``server``: a hash of its address."""

    server: str

    @classmethod
    def of(cls, url: str) -> BackendKeys:
        """The keys for a server's base URL: same address, same keys, whatever the pool."""
        return cls(hashlib.blake2b(url.rstrip("/").lower().encode(), digest_size=8).hexdigest())

    @property
    def members(self) -> str:
        """HASH worker -> its report on this server as JSON."""
        return f"{{backend:{self.server}}}:members"

    @property
    def alive(self) -> str:
        """ZSET worker -> end of its membership, Unix ms by Redis' clock."""
        return f"{{backend:{self.server}}}:alive"

    @property
    def plan(self) -> str:
        """HASH: the leader, its lease, and which models are open (``backend.py``)."""
        return f"{{backend:{self.server}}}:plan"

    @property
    def permits(self) -> str:
        """HASH ``model LF worker`` -> places of its shared limit: held, and how more are waited for (``sync.lua``)."""
        return f"{{backend:{self.server}}}:permits"

    @property
    def news(self) -> str:
        """PUBSUB channel: something changed, ask at once."""
        return f"{{backend:{self.server}}}:news"
