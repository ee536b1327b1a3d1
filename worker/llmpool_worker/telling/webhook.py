"""POST of small JSON documents to somebody's URL: signed if wanted, never redirected, never waited for long."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import aiohttp

from .outbox import Delivery, SendFailed
from .signing import signed_headers

TIMEOUT_S = 5.0
"""One request, connecting included, seconds."""

DELIVERY = Delivery(capacity=500, batch=1, attempts=5, backoff_s=1.0, backoff_max_s=10.0)
"""Five tries, then a letter is given up."""

_AGAIN = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
"""Answers below 500 that a later try may change."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One document, encoded once: its repeats have the same id and the same bytes."""

    body: bytes
    id: str = field(default_factory=lambda: f"msg_{uuid.uuid4().hex}")

    @classmethod
    def of(cls, document: dict[str, Any]) -> Letter:
        """Compact JSON."""
        return cls(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())


class Webhook:
    """A sink for letters. Opens its connections with the first one."""

    def __init__(self, name: str, url: str, key: bytes | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self.name = name
        self._url, self._key = url, key
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def send(self, batch: Sequence[Letter]) -> None:
        """One request for each; ``DELIVERY`` has batches of one, so that one that is refused takes no other along."""
        for letter in batch:
            await self._post(letter)

    async def _post(self, letter: Letter) -> None:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar())
        headers = {"content-type": "application/json"}
        headers |= signed_headers(letter.id, letter.body, int(time.time()), self._key)
        try:
            # A redirect would let the receiver choose where inside our network this worker's requests go.
            async with self._session.post(
                self._url, data=letter.body, headers=headers, allow_redirects=False
            ) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # The error's own words may hold the address, and addresses of webhooks are often secrets.
            raise SendFailed(type(error).__name__) from None
        if not 200 <= status < 300:
            raise SendFailed(f"status {status}", final=status < 500 and status not in _AGAIN)

    async def aclose(self) -> None:
        """Close its connections."""
        if self._session is not None:
            await self._session.close()
