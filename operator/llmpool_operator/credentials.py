"""Redis credentials of a pool, read from a Secret that is labelled as meant for this."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass, field

from llmpool_contract.labels import LABEL_REDIS_SECRET

from .decide.types import Missing
from .kube import APIError, KubeAPI, collection
from .observe import Endpoint

_KEPT = 60.0
"""Seconds that a Secret's content is used before it is read again: a changed password is found within this."""
_FAILURE_KEPT = 10.0
_UNUSED_KEPT = 600.0
"""Seconds after which what nobody asks for any more is forgotten."""
_PATIENCE = 1.0
"""Seconds that a tick waits for a Secret."""


@dataclass(slots=True)
class Credentials:
    """Reads Secrets, and keeps each for a minute; a failure is kept for a while too, so that not every tick asks.

    What was read holds while the API server can't be reached; not where it says that the Secret is gone or forbidden.
    """

    api: KubeAPI
    monotonic: Callable[[], float]
    _kept: dict[tuple[str, str, str], tuple[float, Endpoint | Missing]] = field(default_factory=dict)

    async def endpoint(self, namespace: str, url: str, secret: str | None) -> Endpoint | Missing:
        """The Redis with its credentials; Missing when the Secret may not or can't be read."""
        if secret is None:
            return Endpoint(url)
        now = self.monotonic()
        self._kept = {key: kept for key, kept in self._kept.items() if now < kept[0] + _UNUSED_KEPT}
        until, known = self._kept.get((namespace, secret, url), (now, Missing(f"SecretUnreadable: {secret}")))
        if now >= until:
            found = await self._read(namespace, url, secret, known)
            renewed = isinstance(found, Endpoint) and found is not known
            self._kept[namespace, secret, url] = now + (_KEPT if renewed else _FAILURE_KEPT), found
            return found
        return known

    async def _read(self, namespace: str, url: str, secret: str, known: Endpoint | Missing) -> Endpoint | Missing:
        unreadable = known if isinstance(known, Endpoint) else Missing(f"SecretUnreadable: {secret}: no answer")
        try:
            async with asyncio.timeout(_PATIENCE):
                found = await self.api.get(f"{collection(namespace, 'secrets', 'v1')}/{secret}")
        except TimeoutError:
            return unreadable
        except APIError as error:
            word = {403: "SecretForbidden", 404: "SecretNotFound"}.get(error.status)
            return unreadable if word is None else Missing(f"{word}: {secret}")
        if (found["metadata"].get("labels") or {}).get(LABEL_REDIS_SECRET) != "true":
            return Missing(f"SecretForbidden: {secret} has no label {LABEL_REDIS_SECRET}=true")
        data = found.get("data") or {}
        if "password" not in data:
            return Missing(f"SecretUnreadable: {secret} has no key password")
        return Endpoint(url, username=_decoded(data.get("username")), password=_decoded(data["password"]))


def _decoded(value: str | None) -> bytes | None:
    return None if value is None else base64.b64decode(value)
