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
_PATIENCE = 1.0
"""Seconds that a tick waits for a Secret."""


@dataclass(slots=True)
class Credentials:
    """Reads Secrets, and keeps each for a minute; a failure is kept for a while too, so that not every tick asks."""

    api: KubeAPI
    monotonic: Callable[[], float]
    _kept: dict[tuple[str, str, str], tuple[float, Endpoint | Missing]] = field(default_factory=dict)

    async def endpoint(self, namespace: str, url: str, secret: str | None) -> Endpoint | Missing:
        """The Redis with its credentials; Missing when the Secret may not or can't be read."""
        if secret is None:
            return Endpoint(url)
        now = self.monotonic()
        kept = self._kept.get((namespace, secret, url))
        if kept is None or now >= kept[0]:
            found = await self._read(namespace, url, secret)
            kept = now + (_FAILURE_KEPT if isinstance(found, Missing) else _KEPT), found
            self._kept[namespace, secret, url] = kept
        return kept[1]

    async def _read(self, namespace: str, url: str, secret: str) -> Endpoint | Missing:
        try:
            async with asyncio.timeout(_PATIENCE):
                found = await self.api.get(f"{collection(namespace, 'secrets', 'v1')}/{secret}")
        except TimeoutError:
            return Missing(f"SecretUnreadable: {secret}: no answer")
        except APIError as error:
            word = {403: "SecretForbidden", 404: "SecretNotFound"}.get(error.status, "SecretUnreadable")
            return Missing(f"{word}: {secret}")
        if (found["metadata"].get("labels") or {}).get(LABEL_REDIS_SECRET) != "true":
            return Missing(f"SecretForbidden: {secret} has no label {LABEL_REDIS_SECRET}=true")
        data = found.get("data") or {}
        if "password" not in data:
            return Missing(f"SecretUnreadable: {secret} has no key password")
        return Endpoint(url, username=_decoded(data.get("username")), password=_decoded(data["password"]))


def _decoded(value: str | None) -> str | None:
    return None if value is None else base64.b64decode(value).decode("utf-8", "surrogateescape")
