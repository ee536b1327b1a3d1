"""Requests to a model of the scripted Ollama: refused as Ollama refuses them, commands, or answers under the script."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

from llmpool_contract.models import folded
from tests.support.ollama_answers import (
    BadRequestError,
    answer_tokens,
    embeddings,
    final_part,
    input_texts,
    keep_alive_seconds,
    prompt_words,
    text_part,
)
from tests.support.ollama_faults import STATUSES, TOO_LONG, error, in_place_of_an_answer, within_a_whole_answer
from tests.support.ollama_scheduler import LoadFailedError, Scheduler, Waits
from tests.support.ollama_script import Fault, Rule, Script
from tests.support.ollama_seen import Seen
from tests.support.ollama_stream import Stream, token_delay
from tests.support.ollama_wire import CHAT, EMBED, GENERATE, V1, OllamaWire, OpenAIWire, Wire, from_v1

FIELDS = {CHAT: "messages", GENERATE: "prompt", EMBED: "input"}
EMBED_COUNTERS: tuple[str, ...] = ("total_duration", "load_duration", "prompt_eval_count")
NEEDS = {CHAT: "completion", GENERATE: "completion", EMBED: "embedding"}


class House(Protocol):
    """The server whose requests these are."""

    script: Script
    seen: Seen
    scheduler: Scheduler

    @property
    def models(self) -> dict[str, tuple[str, ...]]: ...


@dataclass(frozen=True)
class Asked:
    """A request in Ollama's terms, and how to answer it in its own."""

    request: web.Request
    path: str
    model: str
    body: dict[str, Any]
    wire: Wire


class Answering:
    """The handler of all paths that ask a model."""

    def __init__(self, house: House) -> None:
        self._house = house

    async def handle(self, request: web.Request) -> web.StreamResponse:
        asked = self._read(request.path, request, await json_body(request))
        if not asked.body.get(FIELDS[asked.path]):
            return await self._command(asked)
        seen = self._house.seen
        call = seen.begin(request.path, asked.model, asked.body)
        try:
            rule = self._house.script.rule_for(asked.model, seen)
            call.fault = None if rule is None else rule.fault.value
            answer = await self._answer(asked, rule)
        except (asyncio.CancelledError, ConnectionError):
            call.outcome = "fault" if call.fault in (Fault.CLOSE, Fault.NO_HEADERS) else "client gone"
            raise
        except BadRequestError:
            call.outcome = "refused"
            raise
        else:
            call.outcome = "answered" if rule is None or rule.fault is Fault.SLOW else "fault"
            return answer
        finally:
            seen.end(call)

    def _read(self, path: str, request: web.Request, given: dict[str, Any]) -> Asked:
        """BadRequestError with Ollama's words for what it refuses."""
        model = str(given.get("model") or "")
        if not model and path == CHAT:
            raise BadRequestError("model is required")
        name = folded(model)
        if name not in self._house.models:
            raise BadRequestError(f"model '{model}' not found", status=404)
        own = V1.get(path, path)
        if path in V1:
            asked = Asked(request, own, name, from_v1(given), OpenAIWire(own, model))
            if not asked.body.get(FIELDS[own]):
                raise BadRequestError(f"[] is too short - '{FIELDS[own]}'")
        else:
            asked = Asked(request, own, name, given, OllamaWire(own, model))
        keep_alive_seconds(asked.body.get("keep_alive"))
        if NEEDS[own] not in self._house.models[name] and not (own == GENERATE and is_unload(asked.body)):
            raise BadRequestError(f'"{model}" does not support {own.removeprefix("/api/")}')
        return asked

    async def _command(self, asked: Asked) -> web.Response:
        """An empty prompt is a command: load the model, or unload it with keep_alive 0."""
        reason = "unload" if is_unload(asked.body) else "load"
        self._house.seen.loads.append((asked.model, reason))
        if reason == "unload":
            self._house.scheduler.unload(asked.model)
        else:
            stay_s = keep_alive_seconds(asked.body.get("keep_alive"))
            await self._house.scheduler.load(asked.model, asked.body.get("options"), stay_s)
        if asked.path == EMBED:
            return web.json_response({"model": asked.body["model"], "embeddings": []})
        part = text_part(asked.path, asked.body["model"], "")
        return web.json_response({**part, "done": True, "done_reason": reason})

    async def _answer(self, asked: Asked, rule: Rule | None) -> web.StreamResponse:
        if instead := await in_place_of_an_answer(asked.request, asked.model, rule):
            return instead
        script = self._house.script
        async with self._house.scheduler.slot(asked.model, asked.body.get("options")) as waits:
            if asked.path == EMBED:
                return await self._embed(script, asked, rule, waits)
            if asked.body.get("stream", True):
                stream = Stream(asked.request, asked.path, asked.body, asked.wire, rule)
                return await stream.run(script, waits)
            return await self._whole(script, asked, rule, waits)

    async def _embed(self, script: Script, asked: Asked, rule: Rule | None, waits: Waits) -> web.Response:
        texts = input_texts(asked.body["input"])
        if broken := await within_a_whole_answer(asked.request, rule):
            return broken
        if rule is not None and rule.fault is Fault.SLOW:
            await asyncio.sleep(rule.delay_s)
        if script.refuse_text is not None and script.refuse_text in texts:
            raise BadRequestError(TOO_LONG)
        await asyncio.sleep(script.embed_call_s + script.embed_input_s * len(texts))
        vectors = embeddings(texts, asked.body.get("dimensions") or script.dimensions)
        words = sum(len(text.split()) for text in texts)
        final = final_part(words, 0, 0.0, "stop", waits)
        kept = {name: final[name] for name in EMBED_COUNTERS if name in final}
        return web.json_response(asked.wire.vectors(vectors, kept))

    async def _whole(self, script: Script, asked: Asked, rule: Rule | None, waits: Waits) -> web.Response:
        """An answer in one object (`stream: false`)."""
        if broken := await within_a_whole_answer(asked.request, rule):
            return broken
        tokens, reason = answer_tokens(asked.path, asked.body, script.tokens)
        delay_s = token_delay(script, rule)
        await asyncio.sleep(delay_s * len(tokens))
        final = final_part(prompt_words(asked.path, asked.body), len(tokens), delay_s, reason, waits)
        done = {} if rule is not None and rule.fault is Fault.NO_DONE else final
        return web.json_response(asked.wire.whole("".join(tokens), done))


def is_unload(body: dict[str, Any]) -> bool:
    return not body.get("prompt") and not body.get("messages") and keep_alive_seconds(body.get("keep_alive")) == 0


@web.middleware
async def refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What Ollama refuses, as it says so."""
    try:
        return await handler(request)
    except BadRequestError as refused:
        return error(request.path, refused.status, str(refused))
    except LoadFailedError:
        return error(request.path, *STATUSES[Fault.LOAD_FAILED])


async def json_body(request: web.Request) -> dict[str, Any]:
    """BadRequestError where it isn't an object."""
    raw = await request.read()
    if not raw:
        raise BadRequestError("missing request body")
    try:
        body = json.loads(raw)
    except ValueError as mistake:
        raise BadRequestError(str(mistake)) from mistake
    if not isinstance(body, dict):
        raise BadRequestError(f"json: cannot unmarshal {type(body).__name__} into Go value")
    return body
