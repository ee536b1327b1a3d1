"""Redis credentials of a pool, read from a Secret that is labelled as meant for this."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import structlog

from llmpool_contract.labels import LABEL_REDIS_SECRET

from .decide.types import Missing
from .kube import APIError, KubeAPI, collection
from .observe import Endpoint

SENTINEL_USERNAME, SENTINEL_PASSWORD = "sentinelUsername", "sentinelPassword"
"""Keys of the Secret for Sentinels that ask for a login of their own; both may be left out."""
_KEYS = ("username", "password", SENTINEL_USERNAME, SENTINEL_PASSWORD)
_KEPT = 60.0
"""Seconds that a Secret's content is used before it is read again: a changed password is found within this."""
_FAILURE_KEPT = 10.0
_UNUSED_KEPT = 600.0
"""Seconds after which what nobody asks for any more is forgotten."""
_PATIENCE = 1.0
"""Seconds that a tick waits for a Secret."""


log = structlog.get_logger(__name__)
Asked: TypeAlias = tuple[str, str, str]
"""(namespace, Secret, URL)."""


@dataclass(slots=True)
class Credentials:
    """Reads Secrets, and keeps each for a minute; a failure is kept for a while too, so that not every tick asks.

    What was read holds while the API server can't be reached; not where it says that the Secret is gone or forbidden.
    """

    api: KubeAPI
    monotonic: Callable[[], float]
    _kept: dict[Asked, tuple[float, Endpoint | Missing]] = field(default_factory=dict)
    """With the time until which it is used as it is."""
    _reading: dict[Asked, asyncio.Task[Endpoint | Missing]] = field(default_factory=dict)
    _forgot_at: float = float("-inf")

    async def endpoint(self, namespace: str, url: str, secret: str | None) -> Endpoint | Missing:
        """The Redis with its credentials; Missing when the Secret may not or can't be read.

        A slow answer is waited for beside the ticks: until then it is what was known.
        """
        if secret is None:
            return Endpoint(url)
        asked = (namespace, secret, url)
        until, known = self._kept.get(asked, (float("-inf"), None))
        if known is not None and self.monotonic() < until:
            return known
        if (reading := self._reading.get(asked)) is None:
            reading = self._reading[asked] = asyncio.create_task(self._renew(asked, known), name="secret")
        if isinstance(known, Endpoint):  # a changed password can wait for a tick, the other pools can't
            return known
        await asyncio.wait({reading}, timeout=_PATIENCE)
        return reading.result() if reading.done() else _unanswered(secret)

    async def close(self) -> None:
        """Give up what is being read."""
        for reading in list(self._reading.values()):
            reading.cancel()
        await asyncio.gather(*self._reading.values(), return_exceptions=True)

    async def _renew(self, asked: Asked, known: Endpoint | Missing | None) -> Endpoint | Missing:
        try:
            found = await self._read(*asked, known)
        except Exception:
            # A Secret of an odd shape must cost its own pools alone; the log has where it broke.
            log.exception("secret not read", namespace=asked[0], secret=asked[1])
            found = known if isinstance(known, Endpoint) else Missing(f"SecretUnreadable: {asked[1]}: see the log")
        finally:
            del self._reading[asked]
        now = self.monotonic()
        renewed = isinstance(found, Endpoint) and found is not known
        self._kept[asked] = now + (_KEPT if renewed else _FAILURE_KEPT), found
        self._forget(now)
        return found

    def _forget(self, now: float) -> None:
        """What nobody asks for any more, now and then."""
        if now >= self._forgot_at + _UNUSED_KEPT:
            self._forgot_at = now
            self._kept = {key: kept for key, kept in self._kept.items() if now < kept[0] + _UNUSED_KEPT}

    async def _read(
        self, namespace: str, secret: str, url: str, known: Endpoint | Missing | None
    ) -> Endpoint | Missing:
        unreadable = known if isinstance(known, Endpoint) else _unanswered(secret)
        try:
            found = await self.api.get(f"{collection(namespace, 'secrets', 'v1')}/{secret}")
        except APIError as error:
            word = {403: "SecretForbidden", 404: "SecretNotFound"}.get(error.status)
            return unreadable if word is None else Missing(f"{word}: {secret}")
        if (found["metadata"].get("labels") or {}).get(LABEL_REDIS_SECRET) != "true":
            return Missing(f"SecretForbidden: {secret} has no label {LABEL_REDIS_SECRET}=true")
        data = found.get("data") or {}
        if "password" not in data:
            return Missing(f"SecretUnreadable: {secret} has no key password")
        try:
            return _endpoint(url, data)
        except UnicodeDecodeError:
            return Missing(f"SecretUnreadable: {secret} has a login for Sentinels that is not UTF-8")


def _unanswered(secret: str) -> Missing:
    return Missing(f"SecretUnreadable: {secret}: no answer")


def _endpoint(url: str, data: Mapping[str, str]) -> Endpoint:
    """Of a Secret's keys these four alone are kept."""
    given = {key: base64.b64decode(data[key]) for key in _KEYS if key in data}
    at_sentinels = {
        name: given[key].decode()
        for name, key in (("sentinel_username", SENTINEL_USERNAME), ("sentinel_password", SENTINEL_PASSWORD))
        if key in given
    }
    return Endpoint(url, username=given.get("username"), password=given["password"], **at_sentinels)
