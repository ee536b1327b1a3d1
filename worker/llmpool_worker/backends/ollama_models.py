"""What Ollama is asked beside jobs: which models there are, and which of them are in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from llmpool_contract.models import folded

from .base import BackendError, ErrorKind, LocalModel, PullProgress, ResidentModel
from .classify import incomplete
from .ollama_api import OllamaApi


class OllamaModels:
    """Loads, unloads and downloads. Remembers by digest which models can only embed: that never changes."""

    def __init__(self, api: OllamaApi, keep_alive_s: int | None = None) -> None:
        """``keep_alive_s``: how long a loaded model stays after its last request, None: until it is unloaded. Sent as
        a number: the string "-1" is refused."""
        self._api = api
        self._keep_alive = -1 if keep_alive_s is None else keep_alive_s
        self._embeds_only: dict[str, bool] = {}

    async def local(self) -> list[LocalModel]:
        """GET /api/tags, without those that run on somebody else's server."""
        answer = await self._api.get("/api/tags")
        return [self._model(entry) for entry in _entries(answer) if not entry.get("remote_host")]

    def _model(self, entry: dict[str, Any]) -> LocalModel:
        digest = _text(entry.get("digest"))
        embeds_only = _only_embeds(entry.get("capabilities"))
        if embeds_only is None and digest is not None:
            embeds_only = self._embeds_only.get(digest)
        return LocalModel(str(entry.get("name")), _count(entry.get("size")), digest, embeds_only)

    async def resident(self) -> list[ResidentModel]:
        """GET /api/ps."""
        answer = await self._api.get("/api/ps")
        return [
            ResidentModel(str(entry.get("name")), _count(entry.get("size")), _count(entry.get("size_vram")))
            for entry in _entries(answer)
        ]

    async def load(self, model: str) -> None:
        """An empty request on the path that the model has, and a look whether it is there then. Of a loaded model it
        only begins its stay anew."""
        if await self.embeds_only(model):
            await self._api.embed(model, [], keep_alive=self._keep_alive)
        else:
            body = self._api.request(model, prompt="", stream=False, keep_alive=self._keep_alive)
            if not (await self._api.post("/api/generate", body)).get("done"):
                raise incomplete()
        if folded(model) not in {folded(found.name) for found in await self.resident()}:
            raise BackendError(ErrorKind.RETRYABLE, "load_failed", "the model is not in memory after its load")

    async def unload(self, model: str) -> None:
        """Takes effect when the model's last request has ended. Embedding models too are unloaded by /api/generate."""
        body = {"model": model, "prompt": "", "stream": False, "keep_alive": 0}
        await self._api.post("/api/generate", body)

    async def pull(self, model: str) -> AsyncGenerator[PullProgress]:
        """POST /api/pull. Whole only where it says so."""
        status = ""
        try:
            async with aclosing(self._api.stream("/api/pull", {"model": model, "stream": True})) as lines:
                async for line in lines:
                    status = str(line.get("status"))
                    yield PullProgress(status, _count(line.get("completed")), _count(line.get("total")))
        except BackendError as error:
            raise _pull_error(error) from None
        if status != "success":
            raise incomplete()

    async def embeds_only(self, model: str) -> bool:
        """Whether a model has no other use than embedding. Raises BackendError where there is no such model."""
        known = next((found for found in await self.local() if folded(found.name) == folded(model)), None)
        if known is not None and known.embeds_only is not None:
            return known.embeds_only
        shown = await self._api.post("/api/show", {"model": model})
        found = _only_embeds(shown.get("capabilities")) or False
        if known is not None and known.digest is not None:
            self._embeds_only[known.digest] = found
        return found


def _entries(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Of ``models``, those that are objects: what else there is, isn't Ollama's."""
    found = answer.get("models")
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _only_embeds(capabilities: Any) -> bool | None:
    if not isinstance(capabilities, list) or not capabilities:
        return None
    return "embedding" in capabilities and "completion" not in capabilities


def _pull_error(error: BackendError) -> BackendError:
    """A registry's word that it has no such model comes as any other error does, in the middle of the answer."""
    if "file does not exist" in error.message:
        return BackendError(ErrorKind.PERMANENT, "model_not_found", "the registry has no such model")
    return error


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
