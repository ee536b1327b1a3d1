"""Why a reading of Redis is missing: a fixed word and the address, never an error's own text."""

from __future__ import annotations

import ssl

from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from .decide.types import Missing

_WORDS: tuple[tuple[type[BaseException], str], ...] = (
    (NoPermissionError, "RedisNoPermission"),
    (AuthenticationError, "RedisAuth"),
    (BusyLoadingError, "RedisLoading"),
    (MasterNotFoundError, "RedisNoMaster"),
    (MasterDownError, "RedisMasterDown"),
    (ClusterDownError, "RedisClusterDown"),
    (AskError, "RedisMoved"),
    (RedisClusterException, "RedisClusterDown"),
    (RedisTimeoutError, "RedisTimeout"),
    (TimeoutError, "RedisTimeout"),
    (ssl.SSLError, "RedisTLS"),
    (RedisConnectionError, "RedisUnreachable"),
    (OSError, "RedisUnreachable"),
    (ResponseError, "RedisError"),
    (RedisError, "RedisError"),
    (ValueError, "RedisAddress"),
)
"""The first that fits counts: the narrower ones come first."""
_ANSWERS = {"WRONGTYPE": "WrongType", "NOAUTH": "RedisAuth", "WRONGPASS": "RedisAuth", "BUSY": "RedisBusy"}
"""First words of answers that redis-py has no class for."""


def why_missing(error: BaseException, shown: str) -> Missing:
    """An error as a reason that anybody may read."""
    return Missing(f"{_word(error)} at {shown}")


def _word(error: BaseException) -> str:
    if type(error) is ResponseError and (answer := _ANSWERS.get(str(error).partition(" ")[0])):
        return answer
    word = next((word for kind, word in _WORDS if isinstance(error, kind)), type(error).__name__)
    if word == "RedisUnreachable" and any(isinstance(cause, ssl.SSLError) for cause in _causes(error)):
        return "RedisTLS"
    return word


def _causes(error: BaseException) -> list[BaseException]:
    causes: list[BaseException] = []
    cause = error.__cause__ or error.__context__
    while cause is not None and len(causes) < 8:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    return causes
