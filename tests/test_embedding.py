"""Embed jobs that share calls, in virtual time: who goes together and when, and what a cancelled one leaves behind."""

import asyncio

import pytest

from llmpool_worker.backends.base import Batch
from llmpool_worker.embedding import Embedded
from tests.support import virtual_time
from tests.support.embedding_server import CALL_S, GATHER_S, Server, codes, embedder, together, vector_of


def test_one_call_for_jobs_that_come_together() -> None:
    """Jobs of one input each go out as one full call, without waiting, and each gets its own vector."""

    async def main() -> None:
        server = Server()
        made = await together(embedder(server), ["a"], ["bb"], ["ccc"], ["dddd"])
        assert asyncio.get_running_loop().time() == pytest.approx(CALL_S)
        assert server.calls == [["a", "bb", "ccc", "dddd"]]
        assert made == [Embedded([vector_of(t)], 8, True, 1, 0.5, 2) for t in ("a", "bb", "ccc", "dddd")]

    virtual_time.run(main())


@pytest.mark.parametrize(("more_expected", "waits_s"), [(True, GATHER_S), (False, 0.0)], ids=["others-come", "alone"])
def test_how_long_a_call_waits_for_company(more_expected: bool, waits_s: float) -> None:
    """A lone job waits the gather time while others are expected, and not at all where nobody is."""

    async def main() -> None:
        made = await embedder(Server(), more_expected=more_expected).embed(["a"], "m")
        assert asyncio.get_running_loop().time() == pytest.approx(waits_s + CALL_S)
        assert (made.input_tokens, made.shared) == (2, False)

    virtual_time.run(main())


def test_the_next_call_gathers_while_one_is_under_way() -> None:
    """What comes during a call goes out together when it ends, without another wait, and never beside it."""

    async def main() -> None:
        server = Server()
        made = embedder(server)
        jobs = []
        for n in range(4):
            jobs.append(asyncio.create_task(made.embed([f"{n}"], "m")))
            await asyncio.sleep(GATHER_S + 0.001)
        await asyncio.gather(*jobs)
        assert (server.calls, server.most) == ([["0"], ["1", "2", "3"]], 1)
        assert asyncio.get_running_loop().time() == pytest.approx(GATHER_S + 2 * CALL_S)

    virtual_time.run(main())


def test_a_call_that_went_early_leaves_no_wait_behind() -> None:
    """A full call goes before its time is over; those who come next have the whole of theirs."""

    async def main() -> None:
        server = Server()
        made = embedder(server, max_calls=2)
        jobs = [asyncio.create_task(made.embed(["a"], "m"))]
        await asyncio.sleep(0.002)
        jobs += [asyncio.create_task(made.embed([text], "m")) for text in "bcde"]
        await asyncio.sleep(0.004)
        jobs += [asyncio.create_task(made.embed(["f"], "m"))]
        await asyncio.wait(jobs)
        assert server.calls == [list("abcd"), ["e", "f"]]

    virtual_time.run(main())


def test_models_have_calls_of_their_own() -> None:
    """Texts of two models never meet in a call, and one model's call holds up no other's."""

    async def main() -> None:
        server = Server()
        made = embedder(server, more_expected=False)
        await asyncio.gather(made.embed(["a"], "m"), made.embed(["b"], "n"))
        assert server.calls == [["a"], ["b"]]
        assert asyncio.get_running_loop().time() == pytest.approx(CALL_S)

    virtual_time.run(main())


def test_a_long_job_is_cut_and_kept_in_order() -> None:
    """More inputs than a call takes make several calls; the last one has room for others, which marks the count."""

    async def main() -> None:
        texts = ["x" * n for n in range(1, 8)]
        short, long, other = await together(embedder(Server()), ["a"], texts, ["b"])
        assert long == Embedded([vector_of(t) for t in texts], 8 + 8 + 2, True, 3, 0.5, 14)
        assert (short.shared, other.shared) == (True, True)
        lone = await embedder(Server()).embed(texts, "m")
        assert (lone.shared, lone.calls) == (False, 2)

    virtual_time.run(main())


@pytest.mark.parametrize("unknown", [{0}, {1}, {0, 1}], ids=str)
def test_a_count_that_is_missing_stays_missing(unknown: set[int]) -> None:
    """Where one call of a job doesn't say its tokens, the job's count is unknown, not the rest's sum."""

    async def main() -> None:
        server = Server()

        def answer(texts: list[str]) -> Batch:
            tokens = None if len(server.calls) - 1 in unknown else 7
            return Batch([vector_of(t) for t in texts], tokens)

        server.answer = answer
        made = await embedder(server).embed(list("abcdef"), "m")
        assert (made.input_tokens, made.load_s, made.calls, made.shared) == (None, None, 2, False)

    virtual_time.run(main())


def test_a_job_without_texts_is_refused() -> None:
    """There is nothing to ask for, and nothing would ever answer it."""
    with pytest.raises(ValueError, match="texts: got none"):
        virtual_time.run(embedder(Server()).embed([], "m"))


def test_a_cancelled_job_takes_back_what_is_not_sent() -> None:
    """Its inputs aren't in any call that begins later, and take up no room there."""

    async def main() -> None:
        server = Server()
        made = embedder(server)
        jobs = [asyncio.create_task(made.embed([text], "m")) for text in "abcdefghi"]
        await asyncio.sleep(CALL_S / 2)
        jobs[5].cancel()
        await asyncio.wait(jobs)
        assert (server.calls, jobs[5].cancelled()) == ([list("abcd"), list("eghi")], True)
        assert jobs[8].result().vectors == [vector_of("i")]

    virtual_time.run(main())


def test_a_cancelled_job_drops_its_result_and_not_the_call() -> None:
    """The others of a call under way get their vectors; with the last of them gone, the call is closed."""

    async def main() -> None:
        server = Server()
        made = embedder(server)
        jobs = [asyncio.create_task(made.embed([text], "m")) for text in "abcd"]
        await asyncio.sleep(CALL_S / 2)
        jobs[0].cancel()
        await asyncio.wait(jobs)
        assert (server.closed, jobs[3].result().vectors) == ([], [vector_of("d")])
        jobs = [asyncio.create_task(made.embed([text], "m")) for text in "abcd"]
        await asyncio.sleep(CALL_S / 2)
        for job in jobs:
            job.cancel()
        await asyncio.wait(jobs)
        await asyncio.sleep(0)
        assert server.closed == [["a", "b", "c", "d"]]

    virtual_time.run(main())


def test_a_job_that_leaves_a_search_changes_nothing_for_the_others() -> None:
    """Cancelled while it was asked for alone, its failure is dropped; the rest of the call is still looked through."""

    async def main() -> None:
        server = Server()
        made = embedder(server)
        jobs = [asyncio.create_task(made.embed([text], "m")) for text in ("refused", "b", "c", "d")]
        await asyncio.sleep(2.5 * CALL_S)
        assert server.calls[-1] == ["refused"]
        jobs[0].cancel()
        outcomes = await asyncio.gather(*jobs, return_exceptions=True)
        assert codes(outcomes) == ["CancelledError", "Embedded", "Embedded", "Embedded"]
        assert server.closed == []

    virtual_time.run(main())


def test_closing_ends_every_call() -> None:
    """No call outlives the embedder, and no job waits for one that never comes."""

    async def main() -> None:
        server = Server()
        made = embedder(server)
        jobs = [asyncio.create_task(made.embed([text] * 3, "m")) for text in "abcd"]
        await asyncio.sleep(CALL_S / 2)
        await made.aclose()
        assert server.under_way == {"m": 0}
        await asyncio.wait(jobs)
        assert all(job.cancelled() for job in jobs)

    virtual_time.run(main())
