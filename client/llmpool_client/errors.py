"""What can go wrong for a producer. Bad input is the contract's own ``BadJob`` and ``BadName``, both ValueErrors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import redis.exceptions

from .refs import JobRef

OUT_OF_REACH = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError)
"""What redis-py raises when there was no answer: refused, late, cut, not logged in, still loading."""


class ClientError(Exception):
    """Base of this package's own errors."""


class QueueUnavailable(ClientError):
    """Redis did not answer. What was asked may or may not have happened; to repeat a submit with its id is safe."""


class QueueRefused(ClientError):
    """Redis answered with an error: out of memory, no permission, a key of another type, a read-only replica."""


class QueueFull(ClientError):
    """Too many jobs wait already, by the queue's own limit or the caller's. To try again later is safe."""

    def __init__(self, queue: str, length: int, limit: int, refused: int, refs: Sequence[JobRef]) -> None:
        before = f"; {len(refs)} of the same call are in" if refs else ""
        super().__init__(f"queue {queue} is full: {length} waiting and {refused} new pass its limit of {limit}{before}")
        self.queue = queue
        self.length = length
        """Jobs that were ready or delayed."""
        self.limit = limit
        self.refs = tuple(refs)
        """Jobs of the same call that are in Redis nevertheless: pushed before, or known by their id."""


class NotDurable(ClientError):
    """The jobs ARE pushed, but their durability was not confirmed in time.

    Never push them under other ids: they may run. To submit them again with the same ids is safe, and waits again.
    """

    def __init__(self, missing: str, timeout_ms: int, refs: Sequence[JobRef], confirmed: Sequence[JobRef]) -> None:
        super().__init__(
            f"{_named(refs)}: pushed, but not confirmed within {timeout_ms} ms by {missing}; "
            "submit again only with the same id"
        )
        self.refs = tuple(refs)
        """What is pushed and not confirmed."""
        self.confirmed = tuple(confirmed)
        """What of the same call was confirmed before. Nothing else of it was pushed."""


class DurabilityUnavailable(ClientError):
    """The server can't confirm what was asked for, however long one waits."""

    def __init__(self, why: str, refs: Sequence[JobRef]) -> None:
        pushed = f"{_named(refs)}: pushed, without a confirmation" if refs else "nothing was pushed"
        super().__init__(f"Redis can't confirm durability: {why}; {pushed}")
        self.refs = tuple(refs)
        """What is pushed nevertheless: the server lost the ability just now."""


class ResultTimeout(ClientError, TimeoutError):
    """No result yet. The job goes on: wait again, or cancel it."""

    def __init__(self, job_id: str, waited_s: float) -> None:
        super().__init__(f"job {job_id}: no result after {waited_s:g} s")
        self.job_id = job_id


class UnknownJob(ClientError, LookupError):
    """None of the queues looked at knows the job's id."""


class UnknownEntry(ClientError, LookupError):
    """A dead letter that isn't there (any more)."""


class NotReplayable(ClientError):
    """A dead letter of which only the beginning was kept."""


class UnreadableReply(ClientError):
    """Something in Redis is not what the contract says: a result or dead letter by another version or program."""


@contextmanager
def redis_errors(address: str) -> Iterator[None]:
    """Turn redis-py's errors into this package's. ``address`` never holds a password."""
    try:
        yield
    except ClientError:  # ResultTimeout is an OSError too
        raise
    except OUT_OF_REACH as error:
        raise QueueUnavailable(f"Redis at {address} is out of reach: {_one_line(error)}") from error
    except redis.exceptions.RedisError as error:
        raise QueueRefused(f"Redis at {address} refused: {_one_line(error)}") from error


def _named(refs: Sequence[JobRef]) -> str:
    more = f" and {len(refs) - 1} more" if len(refs) > 1 else ""
    return f"job {refs[0].id}{more} of queue {refs[0].queue}" if refs else "no job"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
