"""An asynchronous generator walked from a thread without an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Generic, TypeVar

from llmpool_contract.tasks import end_tasks

T = TypeVar("T")


class Steps(Generic[T]):
    """A generator whose interrupted step has ended before the generator is closed."""

    def __init__(self, steps: AsyncGenerator[T, None]) -> None:
        self._steps = steps
        self._step: asyncio.Task[Any] | None = None

    async def next(self) -> T | None:
        """The next value; None at the end."""
        self._step = asyncio.current_task()
        return await anext(self._steps, None)

    async def close(self) -> None:
        """End the step that runs, then the generator."""
        if self._step is not None:
            await end_tasks([self._step])
        await self._steps.aclose()
