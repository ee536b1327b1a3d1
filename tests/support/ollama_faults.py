"""What the scripted Ollama does in place of an answer."""

import asyncio
from collections.abc import Mapping

from aiohttp import web

from tests.support.ollama_script import Fault, Rule
from tests.support.ollama_stream import hang_up, reset

STATUSES: Mapping[Fault, tuple[int, str]] = {
    Fault.ERROR: (500, "model runner has unexpectedly stopped, this may be due to resource limitations"),
    Fault.LOAD_FAILED: (500, "model requires more system memory (9.9 GiB) than is available (1.1 GiB)"),
    Fault.BUSY: (503, "server busy, please try again.  maximum pending requests exceeded"),
    Fault.BAD_REQUEST: (400, "invalid options: temperature"),
    Fault.EMBED_CRASH: (400, 'do embedding request: Post "http://127.0.0.1:41413/embedding": EOF'),
}
TOO_LONG = "the input length exceeds the context length"
NO_SUCH_FILE = "pull model manifest: file does not exist"


async def in_place_of_an_answer(request: web.Request, model: str, rule: Rule | None) -> web.Response | None:
    """What comes before any header. None: the fault, if there is one, is further on."""
    if rule is None:
        return None
    if rule.fault in STATUSES:
        return error(request.path, *STATUSES[rule.fault])
    match rule.fault:
        case Fault.REDIRECT:
            return web.Response(status=307, headers={"Location": "/elsewhere"})
        case Fault.NEVER:
            await asyncio.Event().wait()
        case Fault.NO_HEADERS:
            hang_up(request)
        case Fault.NOT_DONE:
            return web.json_response({"model": model, "response": "", "message": {}, "done": False})
    return None


async def within_a_whole_answer(request: web.Request, rule: Rule | None) -> web.Response | None:
    """The faults of an answer that has no middle: no answer at all, a dead connection, half a body, a status."""
    match None if rule is None else rule.fault:
        case Fault.STALL:
            await asyncio.Event().wait()
        case Fault.CLOSE:
            reset(request)
        case Fault.HALF_LINE:
            return web.Response(text='{"model": "half', content_type="application/json")
        case Fault.ERROR_LINE if rule is not None:
            return error(request.path, 500, rule.message)
    return None


def error(path: str, status: int, message: str) -> web.Response:
    """As the API of that path says it."""
    if path.startswith("/v1/"):
        return web.json_response({"error": {"message": message, "type": "api_error", "code": None}}, status=status)
    return web.json_response({"error": message}, status=status)
