"""A double of Ollama whose faults are scripted: its HTTP API as the real one answers, without a model.

In process: `async with ScriptedOllama(script) as ollama: ollama.url`. As a program of its own:
`python -m tests.support.scripted_ollama --port 0 --print-url`, driven by `POST /_script` (a Script as JSON; an empty
object is the default one; what was seen is forgotten) and read by `GET /_seen`. It also speaks OpenAI's API, as Ollama
does, and tells by `/metrics` what vLLM tells there of its queue.
"""

import argparse
import asyncio
import sys
from typing import Any, Self

from aiohttp import web

from llmpool_contract.models import folded
from tests.support.ollama_answering import Answering, json_body, refusals
from tests.support.ollama_answers import BadRequestError, model_details, pull_lines
from tests.support.ollama_faults import NO_SUCH_FILE
from tests.support.ollama_scheduler import Scheduler
from tests.support.ollama_script import Script
from tests.support.ollama_seen import Seen
from tests.support.ollama_wire import CHAT, EMBED, GENERATE, V1, OllamaWire

VERSION = "0.17.4"
DEFAULT_SIZE = 300_000_000


class ScriptedOllama:
    """The server. `script` may be replaced at any time; requests that run keep the rule that they began with."""

    def __init__(self, script: Script | None = None, *, port: int = 0, host: str = "127.0.0.1") -> None:
        self.script = script or Script()
        self.seen = Seen()
        self.scheduler = Scheduler(self)
        self._pulled: dict[str, tuple[str, ...]] = {}
        self._deleted: set[str] = set()
        self._port = port
        self._host = host
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}"

    @property
    def models(self) -> dict[str, tuple[str, ...]]:
        """Those of the script, and what was pulled and deleted since."""
        there = {folded(name): kinds for name, kinds in self.script.models.items()} | self._pulled
        return {name: kinds for name, kinds in there.items() if name not in self._deleted}

    async def __aenter__(self) -> Self:
        # Like Ollama, end the generation when its client goes away.
        self._runner = web.AppRunner(self._app(), handler_cancellation=True, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=256 * 2**20, middlewares=[refusals])
        answering = Answering(self)
        app.add_routes([web.post(path, answering.handle) for path in (CHAT, GENERATE, EMBED, *V1)])
        app.add_routes(
            [
                web.get("/", self._alive),
                web.get("/api/tags", self._tags),
                web.get("/api/ps", self._ps),
                web.post("/api/show", self._show),
                web.post("/api/pull", self._pull),
                web.delete("/api/delete", self._delete),
                web.get("/api/version", self._version),
                web.get("/v1/models", self._v1_models),
                web.get("/metrics", self._metrics),
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
        return web.json_response({"models": [self._details(name) for name in self.models]})

    async def _ps(self, _request: web.Request) -> web.Response:
        return web.json_response({"models": [self._details(name, loaded=True) for name in self.scheduler.loaded]})

    async def _show(self, request: web.Request) -> web.Response:
        return web.json_response(self._details(self._existing(await json_body(request))))

    async def _pull(self, request: web.Request) -> web.StreamResponse:
        """What the script has or lets be pulled; each line after its share of `pull_s`."""
        body = await json_body(request)
        name = folded(str(body.get("model") or body.get("name") or ""))
        kinds = self.script.pullable.get(name) or self.models.get(name)
        wire, response = OllamaWire(request.path, name), web.StreamResponse()
        await response.prepare(request)
        if kinds is None:
            await response.write(wire.line({"status": "pulling manifest"}) + wire.error(NO_SUCH_FILE))
            return response
        lines = pull_lines(name, self._size(name))
        for line in lines[:-1]:
            await response.write(wire.line(line))
            await asyncio.sleep(self.script.pull_s / len(lines))
        self._pulled[name] = kinds
        self._deleted.discard(name)
        await response.write(wire.line(lines[-1]))
        return response

    async def _delete(self, request: web.Request) -> web.Response:
        name = self._existing(await json_body(request))
        self._deleted.add(name)
        self.scheduler.unload(name)
        return web.Response()

    async def _v1_models(self, _request: web.Request) -> web.Response:
        rows = [{"id": name, "object": "model", "owned_by": "library"} for name in self.models]
        return web.json_response({"object": "list", "data": rows})

    async def _metrics(self, _request: web.Request) -> web.Response:
        """A gauge for each model, as vLLM has them."""
        lines = []
        for name in self.models:
            running = self.scheduler.in_slots(name)
            waiting = self.seen.running(name) - running + self.script.others_waiting
            lines += [
                f'vllm:num_requests_running{{engine="0",model_name="{name}"}} {running}.0',
                f'vllm:num_requests_waiting{{engine="0",model_name="{name}"}} {waiting}.0',
            ]
        return web.Response(text="\n".join(lines) + "\n")

    def _existing(self, body: dict[str, Any]) -> str:
        given = str(body.get("model") or body.get("name") or "")
        if folded(given) not in self.models:
            raise BadRequestError(f"model '{given}' not found", status=404)
        return folded(given)

    def _details(self, name: str, *, loaded: bool = False) -> dict[str, Any]:
        return model_details(name, self.models.get(name, ()), self._size(name), loaded=loaded)

    def _size(self, name: str) -> int:
        return self.script.sizes.get(name, DEFAULT_SIZE)

    async def _set_script(self, request: web.Request) -> web.Response:
        try:
            self.script = Script.from_json(await request.json())
        except (ValueError, TypeError, KeyError) as error:
            raise BadRequestError(f"script: {error}") from error
        self.seen, self.scheduler = Seen(), Scheduler(self)
        self._pulled.clear()
        self._deleted.clear()
        return web.json_response({})

    async def _tell_seen(self, _request: web.Request) -> web.Response:
        return web.json_response(self.seen.to_json())


async def serve(host: str, port: int, *, print_url: bool) -> None:
    async with ScriptedOllama(port=port, host=host) as ollama:
        if print_url:
            print(ollama.url, flush=True)
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.scripted_ollama", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="an address of this machine")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--print-url", action="store_true", help="print the URL when it listens")
    arguments = parser.parse_args()
    try:
        asyncio.run(serve(arguments.host, arguments.port, print_url=arguments.print_url))
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
