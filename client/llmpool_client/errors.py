"""What can go wrong for a producer. Bad input is the contract's own ``BadJob`` and ``BadName``, both ValueErrors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis.exceptions

OUT_OF_REACH = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError)
"""What redis-py raises when there was no answer: refused, late, cut, not logged in, still loading."""


class ClientError(Exception):
    """Base of this package's own errors."""


class QueueUnavailable(ClientError):
    """Redis did not answer. What was asked may or may not have happened; to repeat a submit with its id is safe."""


class QueueRefused(ClientError):
    """Redis answered with an error: out of memory, no permission, a key of another type, a read-only replica."""


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


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
