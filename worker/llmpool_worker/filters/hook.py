"""An HTTP service that is asked about texts: its word is allow, block, redact or flag."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import aiohttp
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, model_validator

from llmpool_contract import Job

from .spec import Stage

ANSWER_BYTES = 65_536
"""Bound on an answer, beside four times what was asked: texts may come back longer, and escaped."""

Given = Literal["allow", "block", "redact", "flag"]


class HookFailed(Exception):
    """No verdict. The message is in our own words and holds no text."""


class Verdict(BaseModel):
    """What the service answers. Unknown fields are passed over, so that it may grow."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, hide_input_in_errors=True)

    action: Given
    texts: list[str] | None = None
    """For redact: one for each text asked about, in their order."""
    rule: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")] | None = None
    """What the service calls its reason: a flag and a dead letter name it."""

    @model_validator(mode="after")
    def _texts_with_redact(self) -> Self:
        if self.action == "redact" and self.texts is None:
            raise ValueError("texts: missing with action redact")
        return self

    @property
    def name(self) -> str:
        """As it appears in flags and reasons."""
        return f"hook:{self.rule}" if self.rule else "hook"


@dataclass(frozen=True, slots=True)
class HookSettings:
    """Where the service is and what it gets."""

    url: str
    timeout_s: float
    fails_open: bool
    on: frozenset[Stage]
    connections: int


class Hook:
    """Asks the service. Follows no redirect and no proxy variable."""

    def __init__(self, settings: HookSettings) -> None:
        self.settings = settings
        self._turns = asyncio.Semaphore(settings.connections)
        self._open: aiohttp.ClientSession | None = None

    async def ask(self, stage: Stage, job: Job, texts: list[str]) -> Verdict:
        """The verdict on a job's texts. Raises HookFailed within ``timeout_s``."""
        question: dict[str, object] = {
            "stage": str(stage),
            "job_id": job.id,
            "type": job.type,
            "model": job.model,
            "tenant": job.tenant,
            "texts": texts,
        }
        try:
            async with asyncio.timeout(self.settings.timeout_s), self._turns:
                raw = await self._post(question, ANSWER_BYTES + 4 * sum(len(text.encode()) for text in texts))
        except TimeoutError:
            raise HookFailed(f"no answer within {self.settings.timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise HookFailed(f"the call failed: {type(error).__name__}") from None
        return _verdict(raw, texts)

    async def _post(self, question: dict[str, object], limit: int) -> bytes:
        async with self._session.post(self.settings.url, json=question, allow_redirects=False) as response:
            if response.status != 200:
                raise HookFailed(f"HTTP {response.status}")
            data = bytearray()
            async for chunk in response.content.iter_any():
                data += chunk
                if len(data) > limit:
                    raise HookFailed(f"an answer of more than {limit} bytes")
            return bytes(data)

    @property
    def _session(self) -> aiohttp.ClientSession:
        """Made at the first question: aiohttp wants a running loop."""
        if self._open is None:
            self._open = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self.settings.connections),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                trust_env=False,
            )
        return self._open

    async def aclose(self) -> None:
        """Close every connection."""
        if self._open is not None:
            await self._open.close()


def _verdict(raw: bytes, texts: list[str]) -> Verdict:
    try:
        verdict = Verdict.model_validate_json(raw)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"])) or "answer"
        raise HookFailed(f"{where}: {fault['type']}") from None
    if verdict.action == "redact":
        given = verdict.texts or []
        if len(given) != len(texts):
            raise HookFailed(f"texts: got {len(given)}, wanted {len(texts)}")
        if not all(text.strip() for text in given):
            raise HookFailed("texts: one is empty; an empty prompt is a command to the model server")
    return verdict
