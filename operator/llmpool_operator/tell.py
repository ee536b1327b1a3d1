"""What a pool's turn says in the log: a line when something changed, none otherwise."""

from __future__ import annotations

from typing import Any

import structlog

from .decide.types import QueueBacklog
from .store import Key
from .targets.base import Turn

log = structlog.get_logger(__name__)


def tell(key: Key, last: Turn | None, turn: Turn) -> None:
    """Log a resize, a size that somebody else changed, drains given up, a failure's or a hold's beginning and end."""
    was, now = _trouble(last), _trouble(turn)
    same = (was and was[0]) == (now and now[0])  # by the reason: a message may change each turn, as a Redis' errors do
    if turn.found is None and turn.resized is None and not turn.given_up and same:
        return
    pool = log.bind(namespace=key[0], pool=key[1])
    if turn.found is not None:
        pool.info("size changed by somebody else", expected=turn.found[0], found=turn.found[1])
    if turn.resized is not None:
        pool.info("resized", before=turn.resized[0], after=turn.resized[1], **_why(turn))
    if turn.given_up:
        pool.warning("drains given up", workers=turn.given_up)
    if not same and now is not None:
        pool.warning("held", reason=now[0], detail=now[1])
    elif not same:
        pool.info("back to normal")


def _why(turn: Turn) -> dict[str, Any]:
    assert turn.decision is not None
    backlogs = [of for of in turn.sighting.observation.queues.values() if isinstance(of, QueueBacklog)]
    return {
        "reason": str(turn.decision.reason),
        "message": turn.decision.message,
        "queued": sum(of.ready + of.due for of in backlogs),
        "in_flight": sum(of.in_flight for of in backlogs),
    }


def _trouble(turn: Turn | None) -> tuple[str, str] | None:
    if turn is None:
        return None
    if turn.failure is not None:
        return turn.failure.reason, turn.failure.message
    if turn.decision is not None and turn.decision.hold:
        return str(turn.decision.reason), turn.decision.message
    return None
