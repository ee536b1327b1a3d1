"""Whose jobs a worker may claim, and what it tells: one worker's view of a model server."""

from collections.abc import Mapping

import pytest

from llmpool_worker.models.places import Places
from llmpool_worker.models.types import Plan, Trouble, Wish

A, B, C = "a:1b", "b:1b", "c:1b"
NOTHING: Mapping[str, int] = {}
NONE: frozenset[str] = frozenset()


def places(
    *, managed: bool = True, batch: int = 1, limits: Mapping[str, int | None] = NOTHING, refused: str = ""
) -> Places:
    """``limits``: of each model, ``*`` of any other; none without a word."""
    return Places(
        managed=managed,
        batch=batch,
        limit_of=lambda model: limits.get(model, limits.get("*")),
        refused=lambda model: model == refused,
    )


def plan(*opened: str, epoch: int = 1, **given: object) -> Plan:
    return Plan(epoch, opened=frozenset(opened), **given)  # type: ignore[arg-type]


# -- caps


def test_before_any_plan() -> None:
    """Nothing is claimed before the leader has said what is open."""
    assert places().caps(5) == {}


def test_only_what_is_open() -> None:
    """Of open models as many as are free, of others none."""
    made = places()
    made.heard(plan(A, B), {})
    assert made.caps(5) == {A: 5, B: 5}


def test_an_unmanaged_server() -> None:
    """Where nobody loads models, or the server can't be read, any model's jobs are taken."""
    assert places(managed=False).caps(5) is None
    away = places()
    away.heard(plan(A, away=True), {})
    assert away.caps(5) is None
    assert away.is_open(B)


def test_jobs_without_a_model() -> None:
    """Jobs that no model will answer are taken to be told so: of models in trouble, and of refused ones."""
    made = places(refused=C)
    made.heard(plan(A, trouble={B: Trouble("load_failed", "r", 100.0)}), {})
    made.looked("q", {C: 1_000}, NONE, full=False)
    assert made.caps(5) == {A: 5, B: 5, C: 5}
    assert made.demand == {}, "a refused model is never loaded"
    assert not made.waits


def test_places_of_a_limit() -> None:
    """A limited model's jobs are taken as far as places are held, in units of slots, less what is held here."""
    made = places(batch=8, limits={A: 2})
    made.heard(plan(A, B), {A: 2})
    assert made.caps(40) == {A: 16, B: 40}
    made.began(A, 3)
    assert made.caps(40) == {A: 13, B: 40}
    made.began(A, 16)
    assert made.caps(40) == {A: 0, B: 40}


@pytest.mark.parametrize(
    ("limits", "caps"),
    [
        pytest.param({A: 2}, {A: 0, "*": 5}, id="of one model: others are free"),
        pytest.param({"*": 2}, {"*": 0}, id="of all: none before places are held"),
        pytest.param({"*": 2, B: None}, {B: 5, "*": 0}, id="of all but one"),
    ],
)
def test_limits_of_an_unmanaged_server(limits: Mapping[str, int | None], caps: Mapping[str, int]) -> None:
    """Limits hold from the first job of a model that the worker meets."""
    made = Places(
        managed=False,
        batch=1,
        limit_of=lambda model: limits.get(model, limits.get("*")),
        refused=lambda model: False,
        named=frozenset(limits) - {"*"},
    )
    assert made.caps(5) == caps


def test_places_are_asked_for_when_a_job_waits() -> None:
    """A model with a limit that a claim came upon is wished for at once, also where the server isn't managed."""
    made = places(managed=False, limits={"*": 2})
    assert made.looked("q", {}, frozenset({A}), full=False)
    assert made.wishes(4) == [Wish(A, 0, 2, 2, has_work=True)]
    assert made.heard(plan(), {A: 2}), "there is more to claim"
    assert made.caps(5) == {A: 2, "*": 0}
    assert not made.looked("q", {}, frozenset({A}), full=False), "no news"


# -- epochs


def test_a_claim_under_an_older_plan() -> None:
    """While a claim is on its way, the plan that it was sent under is the newest that all claims keep to."""
    made = places()
    made.heard(plan(A, epoch=3), {})
    made.claim_begins()
    made.heard(plan(B, epoch=4), {})
    assert made.report(()).epoch == 3
    made.claim_begins()
    assert made.report(()).epoch == 3, "the older one has no answer yet"
    assert made.claim_ends(), "the leader waits to hear of it"
    assert made.report(()).epoch == 4


def test_a_claim_under_the_present_plan() -> None:
    """Its end is no news."""
    made = places()
    made.heard(plan(A, epoch=3), {})
    made.claim_begins()
    assert not made.claim_ends()
    assert not made.claim_ends()


# -- limits


def test_a_claim_may_fill_the_places_of_its_time() -> None:
    """Places taken away under a claim on its way count as taken until it is answered, and while its jobs run."""
    made = places(limits={A: 3})
    made.heard(plan(A), {A: 3})
    made.claim_begins()
    made.heard(plan(A), {A: 0})
    assert made.gives_back
    assert made.caps(4) == {A: 0}
    assert made.wishes(4) == [Wish(A, 3, 3, 3, has_work=False)]
    made.began(A, 1)
    assert made.claim_ends(), "the places that it left empty are free"
    assert made.wishes(3) == [Wish(A, 1, 3, 3, has_work=False)]
    assert made.ended(A, 1), "somebody waits for that place"
    assert made.wishes(4) == [Wish(A, 0, 3, 3, has_work=False)]


def test_the_end_of_a_job_within_its_places() -> None:
    """Is no news for anybody."""
    made = places(limits={A: 3})
    made.heard(plan(A), {A: 3})
    made.began(A, 1)
    assert not made.ended(A, 1)


def test_inputs_share_places() -> None:
    """Of embed jobs so many share a place as share a slot."""
    made = places(batch=8, limits={A: 3})
    made.heard(plan(A), {A: 1})
    made.began(A, 5)
    made.began(A, 5)
    made.met(A)
    assert made.permits() == {A: (2, 3)}
    assert made.wishes(8) == [Wish(A, 2, 3, 3, has_work=False)]


# -- demand


def test_demand_is_the_longest_wait() -> None:
    """Over all queues, in seconds; a later look replaces the former of its queue."""
    made = places()
    assert made.looked("q", {B: 9_000}, NONE, full=False), "a model that the leader doesn't know of"
    assert made.looked("r", {B: 5_000, C: 7_000}, frozenset({A}), full=False)
    assert made.report(()).demand == {B: 5.0, C: 7.0}
    assert made.report(()).at_work == {A}
    assert not made.looked("r", {B: 5_000}, frozenset({A}), full=False), "no news"
    assert made.looked("r", {}, NONE, full=False), "nothing of A is left, and others wait"
    assert made.report(()).demand == {B: 9.0}


def test_an_open_model_is_no_demand() -> None:
    """Its jobs are passed over no more: there may be work of it until a look shows that there is none, and what they
    waited doesn't count again when it has been shut."""
    made = places()
    made.looked("q", {B: 1_000}, NONE, full=False)
    made.heard(plan(B), {})
    assert (made.report(()).demand, made.report(()).at_work) == ({}, {B})
    made.heard(plan(A, epoch=2), {})
    assert made.report(()).demand == {}
    made.looked("q", {B: 2_000}, NONE, full=False)
    assert made.report(()).demand == {B: 2.0}


def test_a_look_that_saw_part() -> None:
    """Where a claim had enough before it came to what waits (a low list behind a busy one), that still waits."""
    made = places()
    made.heard(plan(A), {})
    made.looked("q", {B: 1_000}, NONE, full=False)
    assert not made.looked("q", {}, frozenset({A}), full=True)
    assert made.report(()).demand == {B: 1.0}
    made.looked("q", {}, NONE, full=False)
    assert made.report(()).demand == {}


def test_a_missed_job() -> None:
    """A job whose model was found out too late asks for it, once, until it is open."""
    made = places()
    assert made.missed(B, 5.0)
    assert not made.missed(B, 6.0)
    assert made.demand == {B: 5.0}
    made.heard(plan(B), {})
    assert made.demand == {}


# -- what is heard


@pytest.mark.parametrize(
    ("later", "held", "better"),
    [
        pytest.param(plan(A, epoch=2), {A: 1}, False, id="the same"),
        pytest.param(plan(A, B, epoch=2), {A: 1}, True, id="one more is open"),
        pytest.param(plan(epoch=2), {A: 1}, False, id="one less"),
        pytest.param(plan(A, epoch=2, trouble={B: Trouble("c", "r", 9.0)}), {A: 1}, True, id="jobs to be told no"),
        pytest.param(plan(A, epoch=2, away=True), {A: 1}, True, id="the server is away"),
        pytest.param(plan(A, epoch=2), {A: 2}, True, id="one more place"),
        pytest.param(plan(A, epoch=2), {A: 0}, False, id="one less place"),
    ],
)
def test_claims_may_find_more(later: Plan, held: Mapping[str, int], better: bool) -> None:
    """Those who look for jobs are told to look again where they may find what they didn't before."""
    made = places(limits={A: 4})
    made.heard(plan(A), {A: 1})
    assert made.heard(later, held) is better


def test_the_last_job_of_a_shut_model() -> None:
    """Its end is what a change of models waits for."""
    made = places()
    made.heard(plan(A), {})
    made.began(A, 1)
    made.began(A, 1)
    made.heard(plan(epoch=2), {})
    assert not made.ended(A, 1)
    assert made.ended(A, 1)
    assert made.report(()).in_flight == {}


def test_trouble_passes() -> None:
    """What the leader found counts until its time."""
    made = places()
    trouble = Trouble("load_failed", "r", 100.0)
    made.heard(plan(trouble={B: trouble}), {})
    assert made.trouble_of(B, 99.9) == trouble
    assert made.trouble_of(B, 100.0) is None
    assert made.trouble_of(A, 0.0) is None
