"""Asks Prometheus beside the loop, so that a slow one never holds up a decision: readings carry their age."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp

from .addresses import ForbiddenAddress, GuardedResolver
from .decide.types import Missing
from .promql import Sample, parse_answer

REFRESH_S = 5.0
"""How often a question is asked, at most, unless who asks can wait longer."""
STALE_S = 60.0
"""How old an answer may be."""
TIMEOUT_S = 5.0
"""For one answer, connecting included, waiting for one's turn not."""
_UNUSED_S = 120.0
"""Nobody has asked for as long: the question is forgotten. Longer than an answer is of use."""
MAX_BYTES = 1_000_000
_AT_ONCE = 16
"""Questions to one server at the same time."""
_NOT_YET = "PrometheusNotYetRead"
_STATUS_WORDS = {400: "PrometheusBadQuery", 422: "PrometheusBadQuery", 401: "PrometheusAuth", 403: "PrometheusAuth"}


class _Failed(Exception):
    """No answer. ``word`` is a reason that anybody may read."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer."""

    samples: tuple[Sample, ...]
    age: float
    """Seconds since it was asked for."""


@dataclass(slots=True)
class _Question:
    wanted_at: float
    """Monotonic seconds, like the others."""
    begun_at: float = float("-inf")
    answered_at: float = float("-inf")
    answer: tuple[Sample, ...] | Missing = ()
    failure: str = _NOT_YET
    """Why the last try gave no answer."""
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class _Server:
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))
    questions: dict[str, _Question] = field(default_factory=dict)


class Prometheus:
    """All servers and questions in use. One client: no proxies, no redirects, no cookies, bounded answers."""

    def __init__(self, monotonic: Callable[[], float], *, allow_loopback: bool = False) -> None:
        """``allow_loopback``: whether a pool may name an address of this machine itself."""
        self._monotonic = monotonic
        self._allow_loopback = allow_loopback
        self._servers: dict[str, _Server] = {}
        self._client: tuple[aiohttp.ClientSession, GuardedResolver] | None = None
        self._pruned_at = monotonic()

    def ask(self, url: str, query: str, *, refresh: float = REFRESH_S) -> Heard | Missing:
        """What is known of a query's answer, at once; where that is due, it is asked again beside this.

        An answer outlives failures until it is too old; one that says that there is no value replaces it.
        ``refresh``: seconds after which it is due; of several that ask the same, who wants it soonest counts.
        """
        now = self._monotonic()
        self._prune(now)
        server = self._servers.setdefault(url, _Server())
        question = server.questions.setdefault(query, _Question(now))
        question.wanted_at = now
        if question.task is None and now - question.begun_at >= refresh:
            question.begun_at = now
            question.task = asyncio.create_task(self._refresh(server, url, query, question), name="prometheus")
        if now - question.answered_at > STALE_S:
            return Missing(f"{question.failure} at {shown(url)}")
        if isinstance(question.answer, Missing):
            return Missing(f"{question.answer.reason} at {shown(url)}")
        return Heard(question.answer, now - question.answered_at)

    async def _refresh(self, server: _Server, url: str, query: str, question: _Question) -> None:
        try:
            async with server.turns:
                began = self._monotonic()
                question.answer = parse_answer(await self._get(url, query))
                question.answered_at, question.failure = began, "PrometheusStale"
        except _Failed as failed:
            question.failure = failed.word
        finally:
            question.task = None

    async def _get(self, url: str, query: str) -> bytes:
        """The body of an answer. Raises _Failed."""
        session, resolver = self._opened()
        asked = {"query": query, "timeout": f"{TIMEOUT_S:g}s"}
        try:
            resolver.check_literal(urlsplit(url).hostname or "")
            target = f"{url.rstrip('/')}/api/v1/query"
            async with session.get(target, params=asked, allow_redirects=False) as response:
                if response.status != 200:
                    raise _Failed(_word_of(response.status))
                body = await _capped(response)
        except TimeoutError:
            raise _Failed("PrometheusTimeout") from None
        except ForbiddenAddress:
            raise _Failed("PrometheusForbidden") from None
        except aiohttp.ClientConnectorDNSError as error:
            forbidden = isinstance(error.os_error, ForbiddenAddress)
            raise _Failed("PrometheusForbidden" if forbidden else "PrometheusUnknownHost") from None
        except aiohttp.ClientSSLError:
            raise _Failed("PrometheusTLS") from None
        except (aiohttp.ClientError, OSError, ValueError):
            raise _Failed("PrometheusUnreachable") from None
        return body

    def _opened(self) -> tuple[aiohttp.ClientSession, GuardedResolver]:
        if self._client is None:
            resolver = GuardedResolver(allow_loopback=self._allow_loopback)
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=resolver, limit=0, ttl_dns_cache=10),
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                # Compressed, a small answer could become a large one.
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                auto_decompress=False,
                trust_env=False,
            )
            self._client = session, resolver
        return self._client

    def _prune(self, now: float) -> None:
        if now - self._pruned_at < _UNUSED_S:
            return
        self._pruned_at = now
        for url, server in list(self._servers.items()):
            for query, question in list(server.questions.items()):
                if now - question.wanted_at >= _UNUSED_S and question.task is None:
                    del server.questions[query]
            if not server.questions:
                del self._servers[url]

    async def close(self) -> None:
        """End the questions in progress, and the connections."""
        questions = [question for server in self._servers.values() for question in server.questions.values()]
        tasks = [question.task for question in questions if question.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None:
            session, resolver = self._client
            await session.close()
            await resolver.close()


async def _capped(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > MAX_BYTES:
            raise _Failed("PrometheusTooLarge")
    return bytes(body)


def _word_of(status: int) -> str:
    if 300 <= status < 400:
        return "PrometheusRedirect"
    return _STATUS_WORDS.get(status, "PrometheusError")


def shown(url: str) -> str:
    """Host and port: what may be told to anybody. Never raises."""
    try:
        return urlsplit(url).netloc
    except ValueError:
        return "an address that can't be read"
