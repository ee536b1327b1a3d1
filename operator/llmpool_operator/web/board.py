"""All pools as the page shows them: kept up only when somebody asks, and told as what changed since they last asked."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from llmpool_operator.decide.types import Missing
from llmpool_operator.observe import Endpoint
from llmpool_operator.store import Key

from .detail import detail_of
from .letters import Letters
from .past import Past
from .rows import Counts, Seen, row_of
from .schema import Detail, Row

FRESH_S = 0.8
"""Asked again within this, what is there is told: those who look on at the same time cost as much as one."""
_AT_ONCE = 50
"""Pools looked at before the loop gets its turn: a millisecond or two."""
_REMEMBERED = 1_000
"""Pools that went: who has not asked since all of these came gets the whole again."""
_NOWHERE = Missing("its Redis isn't known")
_LEADER_ONLY = Missing("only the leader reads it")


class Source(Protocol):
    """Who knows the pools."""

    @property
    def known(self) -> list[Key]:
        """Those there are."""

    def seen(self, key: Key) -> Seen | None:
        """What is known of one; None: it is gone."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A pool's line and the revision it came with."""

    revision: int
    row: Row
    text: str


@dataclass(frozen=True, slots=True)
class News:
    """What changed since a revision. ``whole``: everything there is, forget what you had."""

    revision: int
    whole: bool
    rows: list[str]
    """As JSON."""
    gone: list[Key]


class Board:
    """The lines of all pools, and one pool's detail. ``monotonic`` gives seconds."""

    def __init__(self, source: Source, past: Past, monotonic: Callable[[], float]) -> None:
        self._source = source
        self.past = past
        self._monotonic = monotonic
        self.letters = Letters(self._queues, monotonic)
        self.boot = secrets.token_hex(4)
        """Revisions are this process' own."""
        self._revision = 0
        self._rows: dict[Key, _Kept] = {}
        """The last one changed last."""
        self._gone: deque[tuple[int, Key]] = deque(maxlen=_REMEMBERED)
        self._forgotten = 0
        """Revision up to which pools that went may have been forgotten."""
        self._at = float("-inf")
        self._busy = asyncio.Lock()

    async def refresh(self) -> None:
        """Bring the lines up to date, unless somebody has just done so."""
        async with self._busy:
            if self._monotonic() - self._at < FRESH_S:
                return
            self.letters.look()
            known = self._source.known
            for number, key in enumerate(known):
                if number % _AT_ONCE == _AT_ONCE - 1:
                    await asyncio.sleep(0)
                self._take(key)
            for key in self._rows.keys() - set(known):
                self._drop(key)
            self._at = self._monotonic()

    async def first_counts(self, patience: float, key: Key | None) -> None:
        """For who asks once: wait a moment for what Redis is asked only while somebody looks, then look again."""
        if key is not None:
            self.detail(key)
        if await self.letters.first(patience):
            self._at = float("-inf")
            await self.refresh()

    def since(self, revision: int | None) -> News:
        """What changed after a revision; None: all."""
        if revision is None or not self._forgotten <= revision <= self._revision:
            return News(self._revision, True, [kept.text for kept in self._rows.values()], [])
        rows: list[str] = []
        for kept in reversed(self._rows.values()):
            if kept.revision <= revision:
                break
            rows.append(kept.text)
        # One that was made again under its name is there: it mustn't go after its new row has come.
        gone = [key for at, key in self._gone if at > revision and key not in self._rows]
        return News(self._revision, False, rows, gone)

    def detail(self, key: Key) -> Detail | None:
        """All about one pool; None: there is none. Its dead letters are read from now on."""
        seen = self._source.seen(key)
        if seen is None:
            return None
        places = [] if seen.endpoint is None else [(seen.endpoint, queue) for queue in seen.queues]
        self.letters.look(places)
        return detail_of(
            key,
            seen,
            counts={queue: self._counts_of(seen, queue) for queue in seen.queues},
            letters=[self.letters.of(place) for place in places],
            decisions=self.past.of(key),
        )

    def _take(self, key: Key) -> None:
        seen = self._source.seen(key)
        if seen is None:
            self._drop(key)
            return
        row = row_of(key, seen, self._counts(seen))
        held = self._rows.get(key)
        if held is not None and held.row == row:
            return
        self._rows.pop(key, None)  # so that it comes last
        self._revision += 1
        self._rows[key] = _Kept(self._revision, row, compact(row))

    def _drop(self, key: Key) -> None:
        if self._rows.pop(key, None) is None:
            return
        self._revision += 1
        if len(self._gone) == _REMEMBERED:
            self._forgotten = self._gone[0][0]
        self._gone.append((self._revision, key))

    def _counts(self, seen: Seen) -> Counts:
        """Of all a pool's queues; a sum over some of them would pass for the whole."""
        found = [self._counts_of(seen, queue) for queue in seen.queues]
        return Counts(_sum([of.delayed for of in found]), _sum([of.dead for of in found]))

    def _counts_of(self, seen: Seen, queue: str) -> Counts:
        if seen.endpoint is None:
            why = _LEADER_ONLY if seen.turn is None else _NOWHERE
            return Counts(why, why)
        return self.letters.counts((seen.endpoint, queue))

    def _queues(self) -> Mapping[Endpoint, set[str]]:
        wanted: dict[Endpoint, set[str]] = {}
        for key in self._source.known:
            seen = self._source.seen(key)
            if seen is not None and seen.endpoint is not None:
                wanted.setdefault(seen.endpoint, set()).update(seen.queues)
        return wanted


def compact(value: Any) -> str:
    """JSON on one line."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _sum(counts: list[int | Missing]) -> int | Missing:
    total = 0
    for count in counts:
        if isinstance(count, Missing):
            return count
        total += count
    return total
