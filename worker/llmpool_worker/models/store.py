"""The keys of a shared model server as calls."""

from __future__ import annotations

from collections.abc import Sequence

from redis.asyncio import Redis

from llmpool_contract import BackendKeys
from llmpool_worker.queue.store import Script

from .types import MemberReport, Plan, Synced, Wish

MEMBER_MS = 10_000
"""How long a worker counts as there after its last turn, ms."""
TURN_MS = 250
"""How long a place of a shared limit stays with who got it while others wait, ms; longer by the job that fills it."""


class BackendStore:
    """Holds no connection: the caller knows which of its own a call belongs on."""

    def __init__(self, keys: BackendKeys, worker: str, turn_ms: int = TURN_MS) -> None:
        self._keys, self._worker, self._turn_ms = keys, worker, turn_ms
        self._sync, self._plan = Script("sync"), Script("plan")

    async def sync(self, redis: Redis, report: MemberReport, wishes: Sequence[Wish]) -> Synced:
        """Tell, and hear what is so now. May be repeated."""
        keys = self._keys
        args: list[str | int] = [self._worker, MEMBER_MS, report.to_json(), keys.news, self._turn_ms]
        for wish in wishes:
            args += [wish.model, wish.taken, wish.want, wish.limit, int(wish.has_work)]
        reply = await self._sync(redis, [keys.members, keys.alive, keys.plan, keys.permits], args)
        now, leads, fields, held, again, members = reply
        return Synced(
            now_ms=int(now),
            leads=leads == b"1",
            plan=Plan.from_fields(_pairs(fields)),
            held={wish.model: int(places) for wish, places in zip(wishes, held, strict=True)},
            again_s=int(again) / 1_000 if again >= 0 else None,
            members={n: told for n, text in _pairs(members).items() if (told := MemberReport.from_json(text))},
        )

    async def leave(self, redis: Redis) -> None:
        """This worker is gone: what it held is free at once."""
        keys = self._keys
        await self._sync(
            redis, [keys.members, keys.alive, keys.plan, keys.permits], [self._worker, 0, "", keys.news, 0]
        )

    async def write(self, redis: Redis, plan: Plan) -> int:
        """The leader's new plan, decided on ``plan.epoch``. The new epoch; 0: it wasn't taken."""
        fields = [part for pair in plan.to_fields().items() for part in pair]
        args = [self._worker, str(plan.epoch), self._keys.news, *fields]
        return int(await self._plan(redis, [self._keys.plan], args))


def _pairs(flat: Sequence[bytes]) -> dict[str, str]:
    words = [word.decode("utf-8", "replace") for word in flat]
    return dict(zip(words[::2], words[1::2], strict=True))
