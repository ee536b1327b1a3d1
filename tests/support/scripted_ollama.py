"""A double of Ollama whose faults are scripted: its HTTP API as the real one answers, without a model.

In process: `async with ScriptedOllama(script) as ollama: ollama.url`. As a program of its own:
`python -m tests.support.scripted_ollama --port 0 --print-url`, driven by `POST /_script` (a Script as JSON; an empty
object is the default one; what was seen is forgotten) and read by `GET /_seen`.
"""

import argparse
import asyncio
import json
import sys
from typing import Any, Self

from aiohttp import web
from aiohttp.typedefs import Handler

from tests.support.ollama_answers import (
    BadRequestError,
    answer_tokens,
    embeddings,
    final_part,
    input_texts,
    keep_alive_seconds,
    model_details,
    prompt_words,
    text_part,
)
from tests.support.ollama_script import Fault, Rule, Script, Seen, folded
from tests.support.ollama_stream import Stream, reset, token_delay

VERSION = "0.17.4"
CHAT, GENERATE, EMBED = "/api/chat", "/api/generate", "/api/embed"


class ScriptedOllama:
    """The server. `script` may be replaced at any time; requests that run keep the rule that they began with."""

    def __init__(self, script: Script | None = None, *, port: int = 0) -> None:
        self.script = script or Script()
        self.seen = Seen()
        self._loaded: set[str] = set()
        self._port = port
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        # Like Ollama, end the generation when its client goes away.
        self._runner = web.AppRunner(self._app(), handler_cancellation=True, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=256 * 2**20, middlewares=[_refusals])
        app.add_routes(
            [
                web.get("/", self._alive),
                web.post(CHAT, self._model_call),
                web.post(GENERATE, self._model_call),
                web.post(EMBED, self._model_call),
                web.get("/api/tags", self._tags),
                web.get("/api/ps", self._ps),
                web.post("/api/show", self._show),
                web.get("/api/version", self._version),
                web.post("/_script", self._set_script),
                web.get("/_seen", self._tell_seen),
            ]
        )
        return app

    async def _alive(self, _request: web.Request) -> web.Response:
        return web.Response(text="Ollama is running")

    async def _version(self, _request: web.Request) -> web.Response:
        return web.json_response({"version": VERSION})

    async def _tags(self, _request: web.Request) -> web.Response:
        models = [model_details(name, kinds) for name, kinds in self.script.models.items()]
        return web.json_response({"models": models})

    async def _ps(self, _request: web.Request) -> web.Response:
        names = sorted(self._loaded & self.script.models.keys())
        loaded = [model_details(name, self.script.models[name], loaded=True) for name in names]
        return web.json_response({"models": loaded})

    async def _show(self, request: web.Request) -> web.Response:
        body = await _json_body(request)
        name = folded(str(body.get("model") or body.get("name") or ""))
        if name not in self.script.models:
            return _error(404, f"model '{body.get('model')}' not found")
        return web.json_response(model_details(name, self.script.models[name]))

    async def _set_script(self, request: web.Request) -> web.Response:
        try:
            self.script = Script.from_json(await request.json())
        except (ValueError, TypeError, KeyError) as error:
            return _error(400, f"script: {error}")
        self.seen = Seen()
        self._loaded.clear()
        return web.json_response({})

    async def _tell_seen(self, _request: web.Request) -> web.Response:
        return web.json_response(self.seen.to_json())

    async def _model_call(self, request: web.Request) -> web.StreamResponse:
        """Any request to a model: refused as Ollama refuses it, a load, or an answer under the script's rules."""
        body = await _json_body(request)
        model = self._checked_model(request.path, body)
        if _is_load(request.path, body):
            return self._load(request.path, model, body)
        call = self.seen.begin(request.path, model, body)
        try:
            rule = self.script.rule_for(model, self.seen)
            call.fault = None if rule is None else rule.fault.value
            answer = await self._answer(request, model, body, rule)
        except (asyncio.CancelledError, ConnectionError):
            call.outcome = "fault" if call.fault == Fault.CLOSE else "client gone"
            raise
        else:
            call.outcome = "answered" if rule is None or rule.fault is Fault.SLOW else "fault"
            return answer
        finally:
            self.seen.end(call)

    def _checked_model(self, path: str, body: dict[str, Any]) -> str:
        given = body.get("model")
        if not given and path == CHAT:
            raise BadRequestError("model is required")
        name = folded(str(given or ""))
        if name not in self.script.models:
            raise BadRequestError(f"model '{given or ''}' not found", status=404)
        keep_alive_seconds(body.get("keep_alive"))
        needed = {CHAT: "completion", GENERATE: "completion", EMBED: "embedding"}[path]
        kinds = self.script.models[name]
        if needed not in kinds and not (path == GENERATE and _is_unload(body)):
            raise BadRequestError(f'"{given}" does not support {path.removeprefix("/api/")}')
        return name

    def _load(self, path: str, model: str, body: dict[str, Any]) -> web.Response:
        """An empty prompt is a command: load the model, or unload it with keep_alive 0."""
        if _is_unload(body):
            self._loaded.discard(model)
            reason = "unload"
        else:
            self._loaded.add(model)
            reason = "load"
        self.seen.loads.append((model, reason))
        if path == EMBED:
            return web.json_response({"model": body["model"], "embeddings": []})
        return web.json_response({**text_part(path, body["model"], ""), "done": True, "done_reason": reason})

    async def _answer(
        self, request: web.Request, model: str, body: dict[str, Any], rule: Rule | None
    ) -> web.StreamResponse:
        self._loaded.add(model)
        fault = None if rule is None else rule.fault
        if fault is Fault.ERROR:
            return _error(500, "model runner has unexpectedly stopped, this may be due to resource limitations")
        if fault is Fault.BUSY:
            return _error(503, "server busy, please try again.  maximum pending requests exceeded")
        if request.path == EMBED:
            return await self._embed(request, body, rule)
        if body.get("stream", True):
            return await Stream(self.script, request, body, rule).run()
        return await self._whole(request, body, rule)

    async def _embed(self, request: web.Request, body: dict[str, Any], rule: Rule | None) -> web.Response:
        texts = input_texts(body["input"])
        if broken := await self._fault_of_whole(request, rule):
            return broken
        if rule is not None and rule.fault is Fault.SLOW:
            await asyncio.sleep(rule.delay_s)
        words = sum(len(text.split()) for text in texts)
        vectors = embeddings(texts, body.get("dimensions") or self.script.dimensions)
        answer = {"model": body["model"], "embeddings": vectors, "total_duration": 1000000, "load_duration": 1000}
        return web.json_response({**answer, "prompt_eval_count": words})

    async def _whole(self, request: web.Request, body: dict[str, Any], rule: Rule | None) -> web.Response:
        """An answer in one object (`stream: false`)."""
        if broken := await self._fault_of_whole(request, rule):
            return broken
        tokens, reason = answer_tokens(request.path, body, self.script.tokens)
        delay_s = token_delay(self.script, rule)
        await asyncio.sleep(delay_s * len(tokens))
        final = final_part(prompt_words(request.path, body), len(tokens), delay_s, reason)
        text = text_part(request.path, body["model"], "".join(tokens))
        if rule is not None and rule.fault is Fault.NO_DONE:
            return web.json_response(text)
        return web.json_response({**text, **final})

    async def _fault_of_whole(self, request: web.Request, rule: Rule | None) -> web.Response | None:
        """The faults of an answer that has no middle: no answer at all, a dead connection, half a body, a status."""
        fault = None if rule is None else rule.fault
        if fault is Fault.STALL:
            await asyncio.Event().wait()
        if fault is Fault.CLOSE:
            reset(request)
        if fault is Fault.HALF_LINE:
            return web.Response(text='{"model": "half', content_type="application/json")
        if rule is not None and fault is Fault.ERROR_LINE:
            return _error(500, rule.message)
        return None


def _is_load(path: str, body: dict[str, Any]) -> bool:
    field = {CHAT: "messages", GENERATE: "prompt", EMBED: "input"}[path]
    return not body.get(field)


def _is_unload(body: dict[str, Any]) -> bool:
    return not body.get("prompt") and not body.get("messages") and keep_alive_seconds(body.get("keep_alive")) == 0


@web.middleware
async def _refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What Ollama refuses, as it says so."""
    try:
        return await handler(request)
    except BadRequestError as error:
        return _error(error.status, str(error))


async def _json_body(request: web.Request) -> dict[str, Any]:
    raw = await request.read()
    if not raw:
        raise BadRequestError("missing request body")
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise BadRequestError(str(error)) from error
    if not isinstance(body, dict):
        raise BadRequestError(f"json: cannot unmarshal {type(body).__name__} into Go value")
    return body


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)


async def serve(port: int, *, print_url: bool) -> None:
    async with ScriptedOllama(port=port) as ollama:
        if print_url:
            print(ollama.url, flush=True)
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.scripted_ollama", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--print-url", action="store_true", help="print the URL when it listens")
    arguments = parser.parse_args()
    try:
        asyncio.run(serve(arguments.port, print_url=arguments.print_url))
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
