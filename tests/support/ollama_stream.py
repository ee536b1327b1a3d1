"""A streamed answer of the scripted Ollama, and where it breaks."""

import asyncio
import socket
import struct
from collections.abc import Mapping
from itertools import count
from typing import Any

from aiohttp import web

from tests.support.ollama_answers import answer_tokens, answer_words, final_part, prompt_words
from tests.support.ollama_scheduler import Waits
from tests.support.ollama_script import Fault, Rule, Script
from tests.support.ollama_wire import Wire

BIG_LINE_BYTES = 10_000_000
BIG_LINE_PIECE = b"x" * 100_000


class Stream:
    """One streamed answer: a line for each token, then the final line, with at most one fault on the way."""

    def __init__(self, request: web.Request, path: str, body: Mapping[str, Any], wire: Wire, rule: Rule | None) -> None:
        self._request = request
        self._path, self._body = path, body
        self._wire = wire
        self._rule = rule
        self._response = web.StreamResponse(headers={"Content-Type": wire.content_type})

    async def run(self, script: Script, waits: Waits) -> web.StreamResponse:
        delay_s = token_delay(script, self._rule)
        tokens, reason = answer_tokens(self._path, self._body, script.tokens)
        breaks_at = None if self._rule is None else min(self._rule.after_tokens, len(tokens))
        await self._response.prepare(self._request)
        for number, token in enumerate([*tokens, None]):
            if number == breaks_at and self._rule is not None and await self._break(self._rule, delay_s):
                return self._response
            if token is not None:
                await self._say(token, delay_s)
        words = prompt_words(self._path, self._body)
        await self._response.write(self._wire.end(final_part(words, len(tokens), delay_s, reason, waits)))
        await self._response.write_eof()
        return self._response

    async def _say(self, token: str, delay_s: float) -> None:
        if delay_s:
            await asyncio.sleep(delay_s)
        await self._response.write(self._wire.part(token))

    async def _break(self, rule: Rule, delay_s: float) -> bool:
        """Do what the rule says in the middle of the stream; True if the stream is over with it."""
        match rule.fault:
            case Fault.SLOW:
                return False
            case Fault.STALL:
                await asyncio.Event().wait()  # until the client goes away
            case Fault.DRIP:
                await self._drip(rule.delay_s)
            case Fault.ENDLESS:
                await self._go_on(delay_s)
            case Fault.CLOSE:
                reset(self._request)
            case Fault.BIG_LINE:
                await self._big_line()
            case Fault.ERROR_LINE:
                await self._response.write(self._wire.error(rule.message))
            case Fault.HALF_LINE:
                line = self._wire.part("half")
                await self._response.write(line[: len(line) // 2])
        await self._response.write_eof()  # NO_DONE is only this
        return True

    async def _drip(self, delay_s: float) -> None:
        line = self._wire.part("drop " * 10_000)
        for at in range(len(line) - 1):
            await self._response.write(line[at : at + 1])
            await asyncio.sleep(delay_s)

    async def _go_on(self, delay_s: float) -> None:
        words = answer_words(self._path, self._body)
        for number in count():
            await self._say(f"{words[number % len(words)]} ", delay_s)
            await asyncio.sleep(0)  # a client that hangs up is noticed here

    async def _big_line(self) -> None:
        head, tail = self._wire.part("\0").split(b"\\u0000")
        await self._response.write(head)
        for _ in range(BIG_LINE_BYTES // len(BIG_LINE_PIECE)):
            await self._response.write(BIG_LINE_PIECE)
        await self._response.write(tail)


def token_delay(script: Script, rule: Rule | None) -> float:
    return rule.delay_s if rule is not None and rule.fault is Fault.SLOW else script.delay_s


def reset(request: web.Request) -> None:
    """Reset the connection, so that the client sees an error, not an end."""
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    raise ConnectionResetError("scripted: close")


def hang_up(request: web.Request) -> None:
    """Close the connection in good order, without a word."""
    if request.transport is not None:
        request.transport.close()
    raise ConnectionResetError("scripted: no headers")
