"""Dead letters: look at them, send them back to their list, remove them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal

from llmpool_contract import PRIORITIES, Priority, QueueKeys

from .connection import Connections
from .errors import NotReplayable, UnknownEntry, UnreadableReply
from .scripts import PURGE, REPLAY
from .submitting import IDS_TTL_S

PAGE = 20
PURGE_BATCH = 100


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One entry of ``{q}:dead``."""

    queue: str
    entry: str
    """Its address in the stream: ``<ms>-<n>``."""
    code: str
    reason: str
    job_id: str
    """Empty where the body's id could not be read."""
    body: bytes
    """The producer's bytes, or their beginning."""
    priority: Priority
    attempts: int
    deliveries: int
    at_ms: int
    worker: str
    size: int
    """Bytes that the producer sent."""

    @property
    def truncated(self) -> bool:
        """Whether only the beginning of the body was kept: such a job can't be replayed."""
        return self.size > len(self.body)


class DeadLetters:
    """The dead letters of one queue, oldest first."""

    def __init__(self, connections: Connections, queue: str) -> None:
        self._ask = connections.ask
        self._redis = connections.commands
        self._keys = QueueKeys(queue)
        self._replay = self._redis.register_script(REPLAY)
        self._purge = self._redis.register_script(PURGE)

    async def walk(self, newest: str = "+") -> AsyncIterator[DeadLetter]:
        """All entries up to ``newest``, read page by page."""
        start = "-"
        while page := await self._range(start, newest, PAGE):
            for letter in page:
                yield letter
            start = f"({page[-1].entry}"

    async def get(self, entry: str) -> DeadLetter | None:
        """One entry, None if it isn't there."""
        found = await self._range(entry, entry, 1)
        return found[0] if found else None

    async def newest(self) -> str | None:
        """The address of the youngest entry: a bound for work on all, so that it doesn't chase newcomers."""
        found: Any = await self._ask(self._redis.xrevrange(self._keys.dead, count=1))
        return found[0][0].decode() if found else None

    async def replay(self, letter: DeadLetter) -> None:
        """Put its body back at the end of its list and forget its result, in one atomic step.

        Raises:
            UnknownEntry: somebody else replayed or removed it first.
            NotReplayable: only the beginning of the body was kept, or its id belongs to another job by now.
        """
        keys, job_id = self._keys, letter.job_id
        names = [keys.dead, keys.list_of(letter.priority), keys.stats, keys.id(job_id)]
        names += [keys.result(job_id), keys.cancel(job_id), keys.stream(job_id)]
        answer: Literal[b"replayed", b"gone", b"truncated", b"live"]
        answer = await self._ask(self._replay(keys=names, args=[letter.entry, job_id, IDS_TTL_S]))
        if answer == b"gone":
            raise UnknownEntry(f"dead letter {letter.entry} of {keys.queue} is not there any more")
        if answer == b"live":
            raise NotReplayable(
                f"dead letter {letter.entry} of {keys.queue}: a job with its id {letter.job_id} runs, waits or "
                "has been answered since; purge the letter, or submit its body under another id"
            )
        if answer == b"truncated":
            raise NotReplayable(
                f"dead letter {letter.entry} of {keys.queue}: {len(letter.body)} of {letter.size} bytes were kept; "
                "submit the job again from its source"
            )

    async def purge(self, entry: str) -> bool:
        """Remove one entry. False: it wasn't there."""
        return bool(await self._purge_range(entry, entry, 1))

    async def purge_all(self) -> int:
        """Remove what is there now, in batches; how many that were."""
        newest, removed = await self.newest(), 0
        if newest is None:
            return 0
        while went := await self._purge_range("-", newest, PURGE_BATCH):
            removed += went
        return removed

    async def _range(self, first: str, last: str, at_most: int) -> list[DeadLetter]:
        found: Any = await self._ask(self._redis.xrange(self._keys.dead, first, last, count=at_most))
        return [_letter(self._keys.queue, entry, fields) for entry, fields in found]

    async def _purge_range(self, first: str, last: str, at_most: int) -> int:
        keys = [self._keys.dead, self._keys.stats]
        return int(await self._ask(self._purge(keys=keys, args=[first, last, at_most])))


def _letter(queue: str, entry: bytes, fields: dict[bytes, bytes]) -> DeadLetter:
    def text(name: str) -> str:
        return fields.get(name.encode(), b"").decode("utf-8", "replace")

    def number(name: str) -> int:
        try:
            return int(text(name))
        except ValueError:
            raise UnreadableReply(f"dead letter {entry.decode()} of {queue}: {name} is not a whole number") from None

    priority = text("priority")
    if priority not in PRIORITIES:
        raise UnreadableReply(f"dead letter {entry.decode()} of {queue}: priority is none of {', '.join(PRIORITIES)}")
    return DeadLetter(
        queue=queue,
        entry=entry.decode(),
        code=text("code"),
        reason=text("reason"),
        job_id=text("id"),
        body=fields.get(b"body", b""),
        priority=priority,
        attempts=number("attempts"),
        deliveries=number("deliveries"),
        at_ms=number("at_ms"),
        worker=text("worker"),
        size=number("size"),
    )
