"""Answers from a real Redis: found when the same is asked, and never the reason for a failure."""

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from llmpool_contract import Job, QueueKeys, Timings
from llmpool_contract.element import Element
from llmpool_worker.answer import Answer
from llmpool_worker.backends.base import BackendError, Embeddings, ErrorKind, Event, Final, Text, input_texts
from llmpool_worker.cache import Cache, Serving, cache_keys
from llmpool_worker.queue.cache_store import CHUNK, CacheStore
from llmpool_worker.queue.connections import Connections
from llmpool_worker.queue.types import Claim
from tests.support.redis_server import RedisServer
from tests.test_cache_keys import chat, embed

Q = QueueKeys("llm-chat")
ANSWER: list[Event] = [Text("Hel"), Text("lo"), Final("stop", 5, 2, load_s=0.5)]


class Model:
    """A model server as the cache sees one: says what it is told to, and remembers what it was asked."""

    def __init__(self, *events: Event | BackendError, tokens: int | None = 9, shared: bool | None = None) -> None:
        self._events, self._tokens, self._shared = events or ANSWER, tokens, shared
        self.asked: list[Job] = []
        self.by: str | None = None

    async def __call__(self, job: Job) -> AsyncGenerator[Event]:
        self.asked.append(job)
        if job.type == "embed" and self._events is ANSWER:
            yield Embeddings([vector(text) for text in input_texts(job)])
            yield Final("stop", self._tokens, shared=self._shared)
            return
        for event in self._events:
            if isinstance(event, BackendError):
                raise event
            yield event

    @property
    def texts(self) -> list[list[str]]:
        """The texts of each call."""
        return [input_texts(job) for job in self.asked]


def vector(text: str) -> list[float]:
    return [len(text) / 7, ord(text[0]) / 3]


class Desk:
    """A cache, and all that it counts and tells."""

    def __init__(self, redis: Redis, *, max_value_bytes: int = 10_000, shared: bool = False) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: list[Exception] = []
        self.store = CacheStore(
            redis, ttl_ms=60_000, max_value_bytes=max_value_bytes, counted=self._count, failed=self.failures.append
        )
        self.cache = Cache(self.store, lambda _: Serving(), shared=shared)

    def _count(self, outcome: str, answers: int) -> None:
        self.counts[outcome] += answers

    async def ask(self, job: Job, model: Model) -> list[Event]:
        """All events of a job's answer, once what is to be kept is kept."""
        events = [event async for event in self.cache.events(Q, job, model, lambda: model.by)]
        await self.cache.flush()
        return events


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    connections = Connections(redis_url)
    yield connections.once()
    await connections.aclose()


@pytest.fixture
def desk(redis: Redis) -> Desk:
    return Desk(redis)


def vectors_of(events: Sequence[Event]) -> list[list[float]]:
    [embeddings] = [event for event in events if isinstance(event, Embeddings)]
    return embeddings.vectors


def final_of(events: Sequence[Event]) -> Final:
    assert isinstance(events[-1], Final)
    return events[-1]


async def test_the_second_to_ask_gets_the_first_one_s_answer(desk: Desk, redis: Redis) -> None:
    """The model is asked once; the second job has the text in one piece and the usage of then, marked as cached."""
    model = Model()
    assert await desk.ask(chat(id="1"), model) == ANSWER
    assert await desk.ask(chat(id="2", stream=True), model) == [Text("Hello"), Final("stop", 5, 2, cached=True)]
    assert len(model.asked) == 1
    assert desk.counts == {"miss": 1, "stored": 1, "hit": 1}
    [kept] = await redis.keys("{llm-chat}:cache:*")
    assert 0 < await redis.pttl(kept) <= 60_000


async def test_events_pass_through_as_they_come(desk: Desk) -> None:
    """A miss costs a look, not the stream: each piece is there before the next is asked for."""
    stream = desk.cache.events(Q, chat(), Model())
    assert await anext(stream) == Text("Hel")
    await stream.aclose()


@pytest.mark.parametrize("job", [chat(cache=False), embed("a", cache=False)], ids=["chat", "embed"])
async def test_who_doesn_t_ask_for_it_is_left_alone(desk: Desk, redis: Redis, job: Job) -> None:
    """No look, no trace: a job without the field has its answer from the model, and keeps it for nobody."""
    model = Model()
    for _ in range(2):
        await desk.ask(job, model)
    assert len(model.asked) == 2
    assert await redis.dbsize() == 0
    assert desk.counts == {}


async def test_tenants_answers_are_their_own(redis: Redis) -> None:
    """What one tenant asked isn't found by another, unless the worker is told to share."""
    for shared, calls in ((False, 2), (True, 1)):
        desk, model = Desk(redis, shared=shared), Model()
        for tenant in ("a", "b"):
            await desk.ask(chat(tenant=tenant), model)
        assert len(model.asked) == calls


async def test_only_unknown_texts_are_embedded(desk: Desk) -> None:
    """Of ten texts, eight of them known, the model is asked for two; each vector stands where its text does."""
    texts = [f"{n}-text" for n in range(10)]
    model = Model()
    await desk.ask(embed(*texts[:4], *texts[6:]), model)
    events = await desk.ask(embed(*texts), model)
    assert model.texts[1] == texts[4:6]
    assert vectors_of(events) == [vector(text) for text in texts]
    assert final_of(events).cached is None
    events = await desk.ask(embed(*reversed(texts)), model)
    assert len(model.asked) == 2
    assert vectors_of(events) == [vector(text) for text in reversed(texts)]
    assert final_of(events).cached is True
    assert desk.counts == {"miss": 8 + 2, "stored": 8 + 2, "hit": 8 + 10}


async def test_a_text_that_is_there_twice_is_embedded_once(desk: Desk) -> None:
    """The answer has a vector for each place all the same."""
    model = Model()
    assert vectors_of(await desk.ask(embed("a", "b", "a"), model)) == [vector("a"), vector("b"), vector("a")]
    assert model.texts == [["a", "b"]]


async def test_many_texts_at_once(desk: Desk) -> None:
    """A job of more texts than one call carries is looked up and kept whole."""
    texts = [f"{n:04}" for n in range(2 * CHUNK + 1)]
    model = Model()
    for _ in range(2):
        assert vectors_of(await desk.ask(embed(*texts), model)) == [vector(text) for text in texts]
    assert len(model.asked) == 1


@pytest.mark.parametrize(
    ("first", "shared", "tokens"),
    [(["a"], None, 4 + 4), (["a"], True, None), (["a", "c"], None, None)],
    ids=["counted-alone", "call-shared", "counted-together"],
)
async def test_tokens_are_summed_where_all_are_known(
    desk: Desk, first: list[str], shared: bool | None, tokens: int | None
) -> None:
    """A text's tokens are known where it was counted alone; one that isn't known makes the sum unknown, never less."""
    await desk.ask(embed(*first), Model(tokens=4, shared=shared))
    assert final_of(await desk.ask(embed("a", "b"), Model(tokens=4))).input_tokens == tokens


async def test_a_fallback_s_answer_isn_t_kept(desk: Desk) -> None:
    """What another model answered is no answer of this one's."""
    model = Model()
    model.by = "small"
    for job in (chat(), embed("a")):
        await desk.ask(job, model)
    assert desk.counts == {"miss": 2}
    model.by = "m:latest"
    await desk.ask(chat(), model)
    assert desk.counts["stored"] == 1


async def test_vectors_of_two_models_never_meet(desk: Desk) -> None:
    """Where a fallback embeds the rest of a job, all its texts are asked again: distances between two models' vectors
    mean nothing."""
    await desk.ask(embed("a"), Model())
    fallback = Model()
    fallback.by = "other"
    events = await desk.ask(embed("a", "b"), fallback)
    assert fallback.texts == [["b"], ["a", "b"]]
    assert len(vectors_of(events)) == 2
    assert desk.counts["stored"] == 1


async def test_a_failure_is_passed_on_and_nothing_kept(desk: Desk) -> None:
    """The job hears of it as it is."""
    broke = BackendError(ErrorKind.RETRYABLE, "backend_broke", "broke")
    for job in (chat(), embed("a")):
        with pytest.raises(BackendError, match="broke"):
            await desk.ask(job, Model(Text("Hal"), broke))
    await desk.cache.flush()
    assert desk.counts == {"miss": 2}


async def test_half_an_answer_isn_t_kept(desk: Desk) -> None:
    """Only what the server called whole is an answer; of embeddings, only what has a vector for each text."""
    assert await desk.ask(chat(), Model(Text("Hal"))) == [Text("Hal")]
    with pytest.raises(BackendError, match="no end"):
        await desk.ask(embed("a"), Model(Final("stop")))
    assert desk.counts == {"miss": 2}


async def test_what_is_too_large_isn_t_kept(redis: Redis) -> None:
    """It passes whole all the same."""
    desk = Desk(redis, max_value_bytes=20)
    long = [Text("x" * 30), Final("stop")]
    assert await desk.ask(chat(), Model(*long)) == long
    assert desk.counts["stored"] == 0
    await desk.ask(embed("a"), Model())
    assert desk.counts["stored"] == 1  # 4 + 2 * 8 bytes
    assert await redis.dbsize() == 1


async def test_a_value_that_can_t_be_read_is_a_miss(desk: Desk, redis: Redis) -> None:
    """It is counted, told without a word of it, and replaced by the next answer."""
    [name] = cache_keys(chat(), Serving(), shared=False)
    await redis.set(Q.cache(name), '{"content":"secret","new_field":1}')
    assert await desk.ask(chat(), Model()) == ANSWER
    assert desk.counts == {"error": 1, "miss": 1, "stored": 1}
    assert "secret" not in str(desk.failures)
    assert final_of(await desk.ask(chat(), Model())).cached


async def test_a_vector_that_is_none_is_told_and_fails_nothing(desk: Desk, redis: Redis) -> None:
    """What a server answers in place of numbers is the job's, and nobody else's."""
    vectors = [Embeddings([["x"]]), Final("stop")]  # type: ignore[list-item]

    async def ask(_: Job) -> AsyncGenerator[Event]:
        for event in vectors:
            yield event

    assert [event async for event in desk.cache.events(Q, embed("a"), ask)] == vectors
    assert await redis.dbsize() == 0
    assert len(desk.failures) == 1


async def test_a_redis_that_is_away_is_a_miss(own_redis: RedisServer) -> None:
    """Neither the look nor the store fails a job; each is counted and told."""
    connections = Connections(own_redis.url)
    desk = Desk(connections.once())
    own_redis.kill()
    assert await desk.ask(chat(), Model()) == ANSWER
    assert vectors_of(await desk.ask(embed("a"), Model())) == [vector("a")]
    await connections.aclose()
    assert desk.counts == {"error": 4, "miss": 2}
    assert {type(error) for error in desk.failures} == {RedisConnectionError}


async def test_a_full_redis_keeps_its_room_for_jobs(own_redis: RedisServer) -> None:
    """Past its share of maxmemory nothing is kept, and that is counted; what was kept before is read."""
    connections = Connections(own_redis.url)
    redis = connections.once()
    desk, model = Desk(redis), Model()
    await desk.ask(chat(), model)
    used = int((await redis.info("memory"))["used_memory"])
    await redis.config_set("maxmemory", int(used * 1.1))
    await desk.ask(embed("a"), model)
    assert desk.counts == {"miss": 2, "stored": 1, "full": 1}
    assert final_of(await desk.ask(chat(), model)).cached
    await connections.aclose()


async def test_a_refused_store_is_counted(own_redis: RedisServer) -> None:
    """A user without the right to write there: Redis' word is told, the job has its answer."""
    connections = Connections(own_redis.url)
    redis = connections.once()
    await redis.execute_command("ACL SETUSER default resetkeys %R~*")
    desk = Desk(redis)
    assert await desk.ask(chat(), Model()) == ANSWER
    assert (desk.counts["stored"], desk.counts["error"], len(desk.failures)) == (0, 1, 1)
    await connections.aclose()


def test_a_cached_result_says_so_and_costs_no_attempt() -> None:
    """Results of a model are as they were; a cached one counts only the times that a model was asked before."""
    element = Element(
        body=b"", origin="o", priority="normal", deliveries=1, attempts=2, first_claimed_ms=0, worker="w", job_id="1"
    )
    results = []
    for cached in (None, True):
        answer = Answer(1_000)
        for event in (Text("x"), Final("stop", 1, 1, cached=cached)):
            answer.take(event)
        results.append(answer.succeeded("1", chat(), Claim(Q, "h", element, 0), "m", Timings(), "w"))
    assert [(result.cached, result.attempts) for result in results] == [(None, 3), (True, 2)]
    assert b"cached" not in results[0].to_json()
