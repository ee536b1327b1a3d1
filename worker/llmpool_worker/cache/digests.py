"""Which weights a model's name stands for now: an answer of the old ones isn't one of the new."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from llmpool_contract.models import folded
from llmpool_worker.backends.base import BackendError, LocalModel

INTERVAL_S = 60.0
TIMEOUT_S = 10.0


class Digests:
    """Asks the server now and then. A model that it hasn't told of has none, and its answers are kept by name alone."""

    def __init__(self, models: Callable[[], Awaitable[Sequence[LocalModel]]]) -> None:
        self._models = models
        self._known: dict[str, str] = {}

    def of(self, model: str) -> str | None:
        """A model's digest."""
        return self._known.get(folded(model))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.turn()
            await asyncio.sleep(INTERVAL_S)

    async def turn(self) -> None:
        """Ask once; what can't be asked stays as it was."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                found = await self._models()
        except (BackendError, TimeoutError):
            return
        self._known = {folded(model.name): model.digest for model in found if model.digest}
