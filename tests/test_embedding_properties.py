"""Embed jobs of any size that come, fail and are cancelled at any time: none is lost, and no vector is swapped."""

import asyncio
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from llmpool_worker.backends.base import BackendError
from llmpool_worker.embedding import Embedded, Embedder
from tests.support import virtual_time
from tests.support.embedding_server import Server, embedder, vector_of


@dataclass(frozen=True)
class Played:
    """One job of a played day: when it asks, for what, and when it is cancelled, if it is."""

    model: str
    kinds: list[str]
    asks_ms: int
    cancelled_ms: int | None
    alone: bool

    def texts(self, number: int) -> list[str]:
        return [f"{kind} {number}:{index}" for index, kind in enumerate(self.kinds)]


KINDS = st.sampled_from(["good"] * 20 + ["refused", "runner_died", "backend_failed", "backend_busy"])
PLAYED = st.builds(
    Played,
    model=st.sampled_from(["m", "m", "n"]),
    kinds=st.lists(KINDS, min_size=1, max_size=9),
    asks_ms=st.integers(0, 60),
    cancelled_ms=st.none() | st.none() | st.integers(0, 150),
    alone=st.sampled_from([False] * 5 + [True]),
)


async def play(made: Embedder, number: int, job: Played) -> Embedded | BaseException | None:
    """One job's end; None: it was cancelled."""
    await asyncio.sleep(job.asks_ms / 1_000)
    try:
        async with asyncio.timeout(None if job.cancelled_ms is None else job.cancelled_ms / 1_000):
            return await made.embed(job.texts(number), job.model, alone=job.alone)
    except BackendError as error:
        return error
    except TimeoutError:
        return None


@given(
    jobs=st.lists(PLAYED, min_size=1, max_size=14),
    size=st.integers(1, 6),
    max_calls=st.integers(1, 3),
    more_expected=st.booleans(),
)
def test_nothing_is_lost_or_swapped(jobs: list[Played], size: int, max_calls: int, more_expected: bool) -> None:
    """Whatever comes together, fails or is cancelled, each job ends: with exactly its own vectors, its own refusal, or
    a fault of a call that it was in. It is refused only for an input of its own, and hears nobody else's words."""

    async def main() -> None:
        server = Server()
        made = embedder(server, more_expected=more_expected, max_calls=max_calls, size=size)
        ends = await asyncio.gather(*(play(made, number, job) for number, job in enumerate(jobs)))
        await made.aclose()
        assert made._lanes == {}
        assert len(asyncio.all_tasks()) == 1
        assert server.most <= max_calls
        assert max(map(len, server.calls), default=0) <= size
        for number, (job, end) in enumerate(zip(jobs, ends, strict=True)):
            holds(job, number, end, server)

    virtual_time.run(main())


def holds(job: Played, number: int, end: Embedded | BaseException | None, server: Server) -> None:
    """One job's end is one that it may have."""
    texts = job.texts(number)
    mine = [call for call in server.calls if set(call) & set(texts)]
    strangers = {text for call in mine for text in call} - set(texts)
    assert not (job.alone and strangers)
    match end:
        case None:
            assert job.cancelled_ms is not None
        case Embedded():
            assert end.vectors == [vector_of(text) for text in texts]
            assert set(job.kinds) == {"good"}
            assert not end.shared or strangers
        case BackendError(code="refused"):
            assert "refused" in job.kinds
            assert end.message.split(": ", 1)[1] in texts
        case BackendError():
            assert any(text.startswith(end.code) for call in mine for text in call)
            assert end.message == "why" or end.message.removeprefix("why: ") in texts
        case _:
            raise AssertionError(end)
