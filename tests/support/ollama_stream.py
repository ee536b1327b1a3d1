"""A streamed answer of the scripted Ollama, and where it breaks."""

import asyncio
import json
import socket
import struct
from typing import Any

from aiohttp import web

from tests.support.ollama_answers import answer_tokens, final_part, prompt_words, text_part
from tests.support.ollama_script import Fault, Rule, Script


class Stream:
    """One streamed answer: a line for each token, then the final line, with at most one fault on the way."""

    def __init__(self, script: Script, request: web.Request, body: dict[str, Any], rule: Rule | None) -> None:
        self._request = request
        self._body = body
        self._rule = rule
        self._delay_s = token_delay(script, rule)
        self._tokens, self._reason = answer_tokens(request.path, body, script.tokens)
        self._response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})

    async def run(self) -> web.StreamResponse:
        await self._response.prepare(self._request)
        for number, token in enumerate(self._tokens):
            if self._rule is not None and number == self._rule.after_tokens and await self._break(self._rule):
                return self._response
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            await self._line(text_part(self._request.path, self._body["model"], token))
        if self._rule is not None and self._rule.after_tokens >= len(self._tokens) and await self._break(self._rule):
            return self._response
        await self._line({**text_part(self._request.path, self._body["model"], ""), **self._final()})
        await self._response.write_eof()
        return self._response

    def _final(self) -> dict[str, Any]:
        words = prompt_words(self._request.path, self._body)
        return final_part(words, len(self._tokens), self._delay_s, self._reason)

    async def _break(self, rule: Rule) -> bool:
        """Do what the rule says in the middle of the stream; True if the stream is over with it."""
        if rule.fault is Fault.SLOW:
            return False
        if rule.fault is Fault.STALL:
            await asyncio.Event().wait()  # until the client goes away
        if rule.fault is Fault.CLOSE:
            reset(self._request)
        if rule.fault is Fault.ERROR_LINE:
            await self._line({"error": rule.message})
        if rule.fault is Fault.HALF_LINE:
            line = json.dumps(text_part(self._request.path, self._body["model"], "half"))
            await self._response.write(line[: len(line) // 2].encode())
        await self._response.write_eof()  # NO_DONE is only this
        return True

    async def _line(self, part: dict[str, Any]) -> None:
        await self._response.write(json.dumps(part).encode() + b"\n")


def token_delay(script: Script, rule: Rule | None) -> float:
    return rule.delay_s if rule is not None and rule.fault is Fault.SLOW else script.delay_s


def reset(request: web.Request) -> None:
    """Reset the connection, so that the client sees an error, not an end."""
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    raise ConnectionResetError("scripted: close")
