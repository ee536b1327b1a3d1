"""The run itself: the pool's loop, the burst, those who wait for its answers, and one who watches."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, aclosing
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from llmpool_client import Client, End, JobRef
from llmpool_operator.targets.base import Turn
from llmpool_operator.targets.local_run import LocalRun, run_local

from .burst import submit
from .leftovers import sweep
from .scene import GaveUp, Scene, Screen
from .signals import Signals
from .story import Story

LOOK_S = 0.25
"""From one look at the queue and the workers to the next."""
PATIENCE_S = 5.0
"""What the workers get to finish their jobs where the demo ends before its time."""
REDIS_TIMEOUT_S = 5.0


async def play(scene: Scene, story: Story, screen: Screen, signals: Signals) -> None:
    """From zero and back; returns at the end of the story, at the timeout, or soon after a signal.

    However it ends, all workers are gone after it, and so is everything that was written to Redis.

    Raises:
        GaveUp: the workers die.
        ClientError, RedisError: Redis went away.
    """
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(scene.redis_url))
        redis = Redis.from_url(
            scene.redis_url,
            socket_timeout=REDIS_TIMEOUT_S,
            socket_connect_timeout=REDIS_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),  # a push must not be repeated
        )
        stack.push_async_callback(redis.aclose)
        stage = Stage(scene, story, screen, client, redis)
        loop = asyncio.get_running_loop()
        stack.enter_context(signals.heard_by(lambda: loop.call_soon_threadsafe(stage.interrupt)))
        stack.push_async_callback(_sweep, redis, story.burst.queue, scene.pool.key, screen)
        await stage.run()


async def _sweep(redis: Redis, queue: str, pool: str, screen: Screen) -> None:
    try:
        await sweep(redis, queue, pool)
    except (RedisError, OSError) as error:
        screen.say(f"Redis: the keys of {queue} could not be removed: {type(error).__name__}")


class Stage:
    """One run. ``interrupt`` may be called at any time."""

    def __init__(self, scene: Scene, story: Story, screen: Screen, client: Client, redis: Redis) -> None:
        self._scene = scene
        self._story = story
        self._screen = screen
        self._client = client
        self._redis = redis
        self._began = time.monotonic()
        self._turned = asyncio.Event()
        self._interrupted = asyncio.Event()
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    def interrupt(self) -> None:
        """End early: at first with a short drain, the second time without."""
        if self._interrupted.is_set():
            self._hurry.set()
            return
        self._interrupted.set()  # before a word is said: the terminal may be what went away
        self._screen.say(f"Stopping: the workers get {PATIENCE_S:g} s to finish; once more ends them at once.")

    async def run(self) -> None:
        """Until the first of: the end of the story, its failure, the timeout, an interruption."""
        pool = asyncio.create_task(run_local(self._local_run(), stop=self._stop, hurry=self._hurry))
        act = asyncio.create_task(self._act())
        interrupted = asyncio.create_task(self._interrupted.wait())
        try:
            done, _ = await asyncio.wait(
                {pool, act, interrupted}, timeout=self._scene.timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            self._story.timed_out = not done
            for task in done:
                task.result()
        finally:
            act.cancel()
            interrupted.cancel()
            await asyncio.wait({act, interrupted})
            await self._end(pool)
        pool.result()

    async def _end(self, pool: asyncio.Task[None]) -> None:
        self._stop.set()
        if not self._story.over:
            asyncio.get_running_loop().call_later(PATIENCE_S, self._hurry.set)
        await asyncio.wait({pool})

    def _local_run(self) -> LocalRun:
        return LocalRun(
            pool=self._scene.pool,
            redis_url=self._scene.redis_url,
            on_turn=self._on_turn,
            on_note=self._on_note,
            ollama_url=self._scene.model_url or None,
            environment=self._scene.environment,
            output=self._scene.workers_log,
        )

    def _on_turn(self, turn: Turn) -> None:
        self._tick()
        self._story.turned(turn)
        self._turned.set()

    def _on_note(self, note: str) -> None:
        self._tick()
        self._story.crashed(note)

    def _tick(self) -> None:
        self._story.now = time.monotonic() - self._began

    async def _act(self) -> None:
        """The burst, once the pool is known to stand at zero; then all who wait for something."""
        await self._turned.wait()
        refs = await submit(self._story.burst, self._client, self._redis)
        self._tick()
        self._story.submitted_at = self._story.now
        streamed = {job["id"] for job in self._story.burst.jobs if job["stream"]}
        try:
            async with asyncio.TaskGroup() as group:
                for ref in refs:
                    group.create_task(self._read(ref) if ref.id in streamed else self._wait(ref))
                group.create_task(self._watch())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None  # the first one; it ended the others

    async def _wait(self, ref: JobRef) -> None:
        result = await self._client.result(ref)
        self._tick()
        self._story.answered(result)

    async def _read(self, ref: JobRef) -> None:
        stream = self._client.stream(ref)
        async with aclosing(stream):
            async for event in stream:
                self._tick()
                if isinstance(event, End):
                    self._story.answered(event.result)
                else:
                    self._story.streamed(ref.id, event)

    async def _watch(self) -> None:
        """Look and show, until the story is over."""
        while True:
            await self._look()
            self._screen.show(self._story)
            if self._story.over:
                return
            if self._story.hopeless:
                raise GaveUp("the workers end by themselves before they have answered anything")
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        story = self._story
        (queue,) = await self._client.queues([story.burst.queue])
        if queue.dead != len(story.dead):
            letters: Any = self._client.dead_letters(story.burst.queue).walk()
            story.dead = tuple([letter async for letter in letters])
        story.queue = queue
        self._tick()
