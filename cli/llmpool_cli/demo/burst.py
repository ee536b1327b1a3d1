"""What the demo submits: chat jobs, some streamed, one that must expire, and one that is no job at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from llmpool_client import Client, JobRef

LEAST_JOBS, MOST_JOBS = 6, 1_000
STREAMED = 4
ANSWER_TOKENS = 40
DEADLINE_MS = 50
"""Less than the pool needs to leave zero: nobody can have begun the job by then."""
MALFORMED = b'{"id":"cut-short","type":"chat","messages":[{"role":"user","content":"This JSON ends in the mid'

QUESTIONS = (
    "Why is the sky blue?",
    "What does a lighthouse keeper do all day?",
    "How do bees find their way home?",
    "Name three uses for a paper clip.",
    "What is a queue good for?",
    "Why do leaves change colour in autumn?",
    "How does a bicycle stay upright?",
    "What would you pack for a week at sea?",
    "Why does bread rise in the oven?",
    "What makes a good teacher?",
    "How do ships float although they are heavy?",
    "What can you see from a mountain top?",
    "Why do cats purr?",
    "How is paper made?",
    "What is the moon made of?",
    "Tell a very short story about a fox.",
    "Why do we dream?",
    "How does rain form in a cloud?",
    "What is the fastest animal on land?",
    "Give one tip for learning a language.",
    "Why is salt used in cooking?",
    "How do trains switch from track to track?",
    "What does a worker pool do?",
    "Why do stars twinkle at night?",
)


@dataclass(frozen=True, slots=True)
class Burst:
    """Jobs for one queue, as a client's own fields."""

    queue: str
    jobs: tuple[Mapping[str, Any], ...]
    """By the client, in this order; the last one expires."""
    malformed: bytes = MALFORMED
    """By bare RPUSH, before them."""

    @property
    def size(self) -> int:
        """Everything that is submitted."""
        return len(self.jobs) + 1

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of ``jobs``. The malformed one has none that can be read."""
        return tuple(job["id"] for job in self.jobs)

    def question(self, job_id: str) -> str:
        """What a job asks."""
        return next(str(job["messages"][0]["content"]) for job in self.jobs if job["id"] == job_id)


def compose(queue: str, model: str, size: int) -> Burst:
    """A burst of ``size``, all told. The deadline comes in when it is submitted."""
    asked = size - 2
    apart = max(1, asked // STREAMED)
    jobs = [_chat(n, model, stream=n % apart == 0 and n // apart < STREAMED) for n in range(asked)]
    return Burst(queue, (*jobs, _chat(asked, model, stream=False)))


def _chat(number: int, model: str, *, stream: bool) -> dict[str, Any]:
    question = QUESTIONS[number % len(QUESTIONS)]
    return {
        "id": f"job-{number + 1}",
        "type": "chat",
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "options": {"num_predict": ANSWER_TOKENS, "temperature": 0.7, "seed": number},
        "stream": stream,
    }


async def submit(burst: Burst, client: Client, redis: Redis) -> list[JobRef]:
    """Push everything at once; the answers are in the order of ``burst.jobs``."""
    # Redis and not the client: the client would refuse it, and so would any that checks what it sends.
    await redis.rpush(burst.queue, burst.malformed)
    deadline = await client.now_ms() + DEADLINE_MS
    *jobs, last = burst.jobs
    return await client.submit_many([*jobs, {**last, "deadline": deadline}], queue=burst.queue)
