"""Dead letters and delayed jobs, counted in Redis while somebody looks at the page, and only then.

Over connections of its own, so that the readings that sizes are decided from never wait for it. Bodies of dead letters
come along (Redis has no way to leave them out without a script) and are dropped at once: so few letters are read, only
of queues that somebody looks at closely, and again only where their number changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from llmpool_contract import QueueKeys
from llmpool_operator.decide.types import Missing
from llmpool_operator.lines import Line, open_line
from llmpool_operator.missing import why_missing
from llmpool_operator.observe import Command, Endpoint

from .rows import UNREAD, Counts
from .schema import MAX_NAME, LetterRow, QueueLetters, missing, reading, text

EVERY_S = 5.0
TIMEOUT_S = 3.0
"""For one Redis, connecting included."""
UNWATCHED_S = 15.0
"""After nobody has looked for so long, the connections end."""
AGAIN_S = 60.0
"""Letters are read again even where their number is the same: old ones go as new ones come."""
NEWEST = 10
"""Letters of a queue."""
MOST_CLOSELY = 48
"""Queues whose letters are read: what somebody looked at last."""
_QUEUES_AT_ONCE = 200
_REDISES_AT_ONCE = 8
Place: TypeAlias = tuple[Endpoint, str]
"""A queue of a Redis."""


@dataclass(slots=True)
class _Letters:
    """A queue's newest letters as last read."""

    rows: list[LetterRow] | Missing = UNREAD
    of_count: int | Missing = UNREAD
    read_at: float = float("-inf")


@dataclass(slots=True)
class _Redis:
    """One Redis, connected while it answers."""

    endpoint: Endpoint
    line: Line | None = None

    async def ask(self, commands: list[Command]) -> list[Any] | Missing:
        """The replies; one may be an exception. Never raises."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                if self.line is None:
                    self.line = await open_line(self.endpoint)
                return (await self.line.ask(commands)).replies
        except Exception as error:  # noqa: BLE001 - an oddity of one Redis must not end the reading of the others
            await self.close()
            return why_missing(error, self.endpoint.shown)

    async def close(self) -> None:
        """End the connections."""
        line, self.line = self.line, None
        if line is not None:
            await line.close()


@dataclass(slots=True)
class Letters:
    """All Redises'. ``wanted`` names the queues of each, asked at each round."""

    wanted: Callable[[], Mapping[Endpoint, Collection[str]]]
    monotonic: Callable[[], float]
    _counts: dict[Place, Counts] = field(default_factory=dict)
    _letters: dict[Place, _Letters] = field(default_factory=dict)
    """Of the queues that are looked at closely, the last one looked at last."""
    _redises: dict[Endpoint, _Redis] = field(default_factory=dict)
    _looked_at: float = float("-inf")
    _task: asyncio.Task[None] | None = None
    _at_once: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_REDISES_AT_ONCE))
    _hurry: asyncio.Event = field(default_factory=asyncio.Event)
    _whole: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once everything that is wanted was read."""

    def look(self, closely: Iterable[Place] = ()) -> None:
        """Somebody looks. Reading goes on for a while; this waits for nothing."""
        self._looked_at = self.monotonic()
        for place in closely:
            known = self._letters.pop(place, None)
            self._letters[place] = known or _Letters()
            if known is None:
                self._hurry.set()
                self._whole.clear()
        while len(self._letters) > MOST_CLOSELY:
            del self._letters[next(iter(self._letters))]
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._while_watched(), name="dead letters")

    async def first(self, patience: float) -> bool:
        """Wait until all was read once, at most ``patience`` seconds. False: it was already."""
        if self._whole.is_set():
            return False
        try:
            async with asyncio.timeout(patience):
                await self._whole.wait()
        except TimeoutError:
            pass  # those that answered are there
        return True

    def counts(self, place: Place) -> Counts:
        """As last read."""
        return self._counts.get(place, Counts())

    def of(self, place: Place) -> QueueLetters:
        """The newest letters of a queue, as last read."""
        known, count = self._letters.get(place, _Letters()), self.counts(place).dead
        rows = known.rows if not isinstance(count, Missing) else count
        return {
            "queue": text(place[1], MAX_NAME),
            "count": reading(count),
            "letters": missing(rows.reason) if isinstance(rows, Missing) else rows,
        }

    async def close(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _while_watched(self) -> None:
        try:
            while self.monotonic() - self._looked_at < UNWATCHED_S:
                self._hurry.clear()
                await self.round()
                if not self._hurry.is_set():
                    self._whole.set()
                await self._pause()
        finally:
            for redis in self._redises.values():
                await redis.close()
            self._redises.clear()
            self._counts.clear()
            self._letters.clear()
            self._whole.clear()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(EVERY_S):
                await self._hurry.wait()
        except TimeoutError:
            return

    async def round(self) -> None:
        """Read everything once."""
        wanted = self.wanted()
        for endpoint in [held for held in self._redises if held not in wanted]:
            await self._redises.pop(endpoint).close()
        await asyncio.gather(*(self._read(endpoint, sorted(queues)) for endpoint, queues in wanted.items()))
        self._counts = {place: kept for place, kept in self._counts.items() if place[1] in wanted.get(place[0], ())}

    async def _read(self, endpoint: Endpoint, queues: list[str]) -> None:
        async with self._at_once:
            redis = self._redises.setdefault(endpoint, _Redis(endpoint))
            for first in range(0, len(queues), _QUEUES_AT_ONCE):
                await self._count(redis, queues[first : first + _QUEUES_AT_ONCE])
            for queue in queues:
                if (endpoint, queue) in self._letters:
                    await self._fetch(redis, queue)

    async def _count(self, redis: _Redis, queues: list[str]) -> None:
        asked: list[Command] = []
        for keys in map(QueueKeys, queues):
            asked += [("ZCOUNT", keys.delayed, "-inf", "+inf"), ("XLEN", keys.dead)]
        replies = await redis.ask(asked)
        shown = redis.endpoint.shown
        for number, queue in enumerate(queues):
            if isinstance(replies, Missing):
                found = Counts(replies, replies)
            else:
                found = Counts(*(_count_of(reply, shown) for reply in replies[2 * number : 2 * number + 2]))
            self._counts[redis.endpoint, queue] = found

    async def _fetch(self, redis: _Redis, queue: str) -> None:
        """The newest letters, where they aren't those that were read last."""
        place = redis.endpoint, queue
        known, count, now = self._letters[place], self.counts(place).dead, self.monotonic()
        if known.of_count == count and now - known.read_at < AGAIN_S:
            return
        rows: list[LetterRow] | Missing = []
        if isinstance(count, int) and count > 0:
            replies = await redis.ask([("XREVRANGE", QueueKeys(queue).dead, "+", "-", "COUNT", NEWEST)])
            rows = replies if isinstance(replies, Missing) else letters_of(replies[0], redis.endpoint.shown)
        if place in self._letters:  # else nobody looks any more
            self._letters[place] = _Letters(rows, count if isinstance(rows, list) else UNREAD, now)


def _count_of(reply: Any, shown: str) -> int | Missing:
    return why_missing(reply, shown) if isinstance(reply, BaseException) else int(reply)


def letters_of(reply: Any, shown: str) -> list[LetterRow] | Missing:
    """What XREVRANGE answered, without the bodies. Entries of another form are shown as far as they go."""
    if isinstance(reply, BaseException):
        return why_missing(reply, shown)
    return [_letter(entry, dict(zip(fields[::2], fields[1::2], strict=False))) for entry, fields in reply]


def _letter(entry: bytes, fields: Mapping[bytes, bytes]) -> LetterRow:
    def words(name: bytes, longest: int) -> str:
        return text(fields.get(name, b"")[: 4 * longest].decode("utf-8", "replace"), longest)

    at_ms, attempts = _number(fields.get(b"at_ms")), _number(fields.get(b"attempts"))
    return {
        "entry": entry.decode("utf-8", "replace"),
        "id": words(b"id", MAX_NAME),
        "code": words(b"code", 64),
        "reason": words(b"reason", 300),
        "at": None if at_ms is None else at_ms / 1000,
        "attempts": attempts,
    }


def _number(raw: bytes | None) -> int | None:
    """None for what isn't one: somebody else may have written the entry."""
    return int(raw) if raw is not None and raw.isdigit() and len(raw) <= 16 else None
