"""Embed jobs that share a call which fails, in virtual time: whose failure it is, and what it costs to find out."""

import asyncio

import pytest

from llmpool_worker.backends.base import BackendError, Batch
from llmpool_worker.embedding_search import failures_of_one
from tests.support import virtual_time
from tests.support.embedding_server import Server, codes, embedder, together


def test_a_bad_input_fails_its_own_job_only() -> None:
    """The others of its call succeed; the error is that of the job's own request, with its own words only."""

    async def main() -> None:
        server = Server()
        made = await together(embedder(server), ["a"], ["b", "refused mine"], ["c"])
        assert codes(made) == ["Embedded", "refused", "Embedded"]
        assert isinstance(made[1], BackendError)
        assert made[1].message == "why: refused mine"
        assert len(server.calls) <= 1 + 2 * 2

    virtual_time.run(main())


def test_a_job_alone_in_its_call_is_not_searched() -> None:
    """Whichever of its inputs is bad, the job has failed: one call says so."""

    async def main() -> None:
        server = Server()
        made = await together(embedder(server), ["a", "b", "refused c"])
        assert (codes(made), len(server.calls)) == (["refused"], 1)

    virtual_time.run(main())


@pytest.mark.parametrize("code", ["model_not_found", "backend_failed", "backend_busy"])
def test_a_fault_of_nobody_is_everybody_s(code: str) -> None:
    """A missing model, a failing or a full server is no input's fault: all jobs of the call hear of it, after one call,
    with the wish when to come back and without the words, which are about somebody else's text."""

    async def main() -> None:
        server = Server()
        made = await together(embedder(server), ["a"], [f"{code} secret"], ["c"])
        assert (codes(made), len(server.calls)) == ([code] * 3, 1)
        assert {(e.message, e.retry_after_s) for e in made if isinstance(e, BackendError)} == {("why", 3.0)}

    virtual_time.run(main())


def test_a_fault_of_the_server_ends_the_search() -> None:
    """A server that is full in the midst of a search is not asked on: those not answered yet come back later."""

    async def main() -> None:
        server = Server()
        made = await together(embedder(server), ["backend_busy b"], ["a"], ["refused r"], ["c"])
        assert (codes(made), len(server.calls)) == (["backend_busy"] * 4, 1)
        made = await together(embedder(server), ["refused r"], ["a"], ["backend_busy b"], ["c"])
        assert codes(made) == ["refused", "Embedded", "backend_busy", "backend_busy"]

    virtual_time.run(main())


def test_one_input_that_kills_the_runner_is_found() -> None:
    """It alone is retried by its job's rules; the others have their vectors after a few loads of the model."""

    async def main() -> None:
        server = Server()
        jobs = [["a"], ["runner_died b"], ["c"], ["d"]]
        made = await together(embedder(server), *jobs)
        assert codes(made) == ["Embedded", "runner_died", "Embedded", "Embedded"]
        assert sum(any("died" in text for text in texts) for texts in server.calls) <= 1 + 2

    virtual_time.run(main())


def test_a_runner_that_always_dies_is_left_in_peace() -> None:
    """Past the crashes that one input explains it is the runner that is ill: the search ends, all are retried."""

    async def main() -> None:
        server = Server()
        made = await together(embedder(server, size=8), *[[f"runner_died {n}"] for n in range(8)])
        assert (codes(made), len(server.calls)) == (["runner_died"] * 8, failures_of_one(8) + 1)

    virtual_time.run(main())


@pytest.mark.parametrize(
    "vectors",
    [[[1.0]], [[1.0], [1.0], [1.0]], [[1.0], [1.0, 2.0]], [[], []], []],
    ids=["few", "many", "ragged", "empty", "none"],
)
def test_vectors_that_do_not_fit_are_no_answer(vectors: list[list[float]]) -> None:
    """One vector per input, all of one length: else the answer is incomplete, and nobody gets a part of it."""

    async def main() -> None:
        server = Server(answer=lambda _: Batch(vectors, 1))
        assert codes(await together(embedder(server), ["a"], ["b"])) == ["incomplete"] * 2

    virtual_time.run(main())


def test_a_bug_ends_every_job_of_its_call() -> None:
    """What nobody thought of is raised in each job, and the model's next call goes out all the same."""

    async def main() -> None:
        made = embedder(Server())
        assert codes(await together(made, ["bug"], ["b"])) == ["ZeroDivisionError"] * 2
        assert codes(await together(made, ["c"])) == ["Embedded"]

    virtual_time.run(main())


def test_a_job_alone_shares_no_call() -> None:
    """Asked to be alone, a job's failure is its own and its count too."""

    async def main() -> None:
        server = Server()
        made = embedder(server)
        jobs = [made.embed(["a"], "m"), made.embed(["b", "c"], "m", alone=True), made.embed(["d"], "m")]
        outcomes = await asyncio.gather(*jobs)
        assert server.calls == [["a"], ["b", "c"], ["d"]]
        assert [made.shared for made in outcomes] == [False] * 3

    virtual_time.run(main())
