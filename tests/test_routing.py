"""Which model a job is asked of: its chain, what is allowed, whose breaker is open, and what a failure goes on to."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import llmpool_worker
from llmpool_contract import Job
from llmpool_contract.models import folded
from llmpool_worker.backends.base import BackendError, ErrorKind
from llmpool_worker.breaker_types import BreakerRules, Open
from llmpool_worker.breakers import Counts
from llmpool_worker.failures import HANDLING, handling_of
from llmpool_worker.guards import make_breaker_rules, make_breakers, make_chains, make_gate, make_retry_budget
from llmpool_worker.routing import AllowedModels, Chains, Exhausted, Take, Wait, preferred, route
from llmpool_worker.settings import SettingsError, load
from llmpool_worker.settings.routing import read_allowed, read_fallbacks
from tests.test_documents import codes_in

POOL = {"big:70b": ["small:8b", "tiny"], "m:latest": ["n"]}
CHAIN = ("big:70b", "small:8b", "tiny")


def job(model: str, fallbacks: list[str] | None = None) -> Job:
    return Job(type="generate", model=model, prompt="x", fallback_models=fallbacks)


def shut(**until: float):
    """Breakers of which those named (with _ for :) are open until then."""
    states = {folded(name.replace("_", ":")): Open(at, "5 failures in a row") for name, at in until.items()}
    return states.get


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("m", "m:latest"),
        ("m:8b", "m:8b"),
        ("host:5000/team/m", "host:5000/team/m:latest"),
        ("host:5000/m:8b", "host:5000/m:8b"),
        ("m@sha256:00", "m@sha256:00"),
    ],
)
def test_names_are_folded(name: str, same: str) -> None:
    """A bare name means :latest; a registry's port is no tag, and a name that is folded stays as it is."""
    assert folded(name) == same == folded(same)


@pytest.mark.parametrize(
    ("given", "chain"),
    [
        (job("big:70b"), ("big:70b", "small:8b", "tiny")),
        (job("m"), ("m", "n")),
        (job("big:70b", []), ("big:70b",)),
        (job("big:70b", ["other"]), ("big:70b", "other")),
        (job("small:8b"), ("small:8b",)),
        (job("a", ["a:latest", "b", "b:latest", "c", "a"]), ("a", "b", "c")),
    ],
    ids=["pool's", "folded", "none wanted", "job's own", "not passed on", "each once"],
)
def test_chains(given: Job, chain: tuple[str, ...]) -> None:
    """The job's fallbacks before the pool's, each model once, names as they were written."""
    assert Chains(POOL, AllowedModels()).of(given) == chain


def test_what_isn_t_allowed_is_left_out() -> None:
    """Fallbacks outside of ALLOWED_MODELS are passed over; the job's own model outside of it refuses the job."""
    chains = Chains(POOL, AllowedModels(["big:70b", "tiny:latest"]))
    assert chains.of(job("big:70b")) == ("big:70b", "tiny")
    assert chains.of(job("big:70b", ["x:cloud", "tiny"])) == ("big:70b", "tiny")
    assert chains.refusal(job("tiny")) is None
    assert chains.refusal(job("small:8b")) == ("model: got small:8b, allowed are big:70b, tiny:latest (ALLOWED_MODELS)")


def test_without_a_list_any_local_model_is_allowed() -> None:
    """But none that Ollama would run elsewhere."""
    assert AllowedModels().refusal("whatever") is None
    assert AllowedModels().refusal("x:120b-cloud") == "got x:120b-cloud: Ollama would send it to a server outside"


def test_the_own_model_is_taken_where_it_may_be() -> None:
    """No reason, no fallback, and nobody asks about the others."""
    asked: list[str] = []
    assert route(("m", "n"), asked.append, 0.0) == Take("m", "")
    assert asked == ["m:latest"]


def test_the_first_with_a_closed_breaker_is_taken() -> None:
    """In the chain's order, with the reason for which it isn't the job's own."""
    taken = route(CHAIN, shut(big_70b=60.0), 20.0)
    reason = "the breaker of big:70b is open for 40 s more: 5 failures in a row"
    assert taken == Take("small:8b", reason, fallback_from="big:70b")


def test_where_all_are_open_it_waits_for_the_first_probe() -> None:
    """The earliest of the chain's times, whichever model's it is."""
    found = route(CHAIN, shut(big_70b=60.0, small_8b=30.0, tiny=90.0), 0.0)
    assert found == Wait(30.0, "small:8b", "the breaker of small:8b is open for 30 s more: 5 failures in a row")


def test_a_model_that_isn_t_there_is_passed_over() -> None:
    """By the server's list. If that has none of the chain it is stale: the server has the last word."""
    assert route(CHAIN, shut(), 0.0, known={"tiny:latest"}) == Take(
        "tiny", "the server doesn't have big:70b", "big:70b"
    )
    assert route(CHAIN, shut(), 0.0, known={"other:latest"}) == Take("big:70b", "")
    assert route(CHAIN, shut(small_8b=9.0), 0.0, known={"small:8b"}) == Wait(
        9.0, "small:8b", "the breaker of small:8b is open for 9 s more: 5 failures in a row"
    )


def test_what_was_tried_in_this_attempt_isn_t_again() -> None:
    """The next of the chain, until there is none: then the failure decides."""
    assert route(CHAIN, shut(), 0.0, tried=["big:70b"]) == Take("small:8b", "big:70b failed in this attempt", "big:70b")
    assert route(CHAIN, shut(), 0.0, tried=CHAIN) == Exhausted()
    assert isinstance(route(CHAIN, shut(tiny=5.0), 0.0, tried=CHAIN[:2]), Wait)


def test_a_model_that_keeps_failing_goes_behind_its_fallbacks() -> None:
    """Two attempts each, so that the default of four reaches the first fallback; the last keeps its turn."""
    orders = [preferred(CHAIN, attempts)[0] for attempts in range(8)]
    assert orders == ["big:70b"] * 2 + ["small:8b"] * 2 + ["tiny"] * 4
    assert preferred(CHAIN, 2) == ("small:8b", "tiny", "big:70b")
    assert route(CHAIN, shut(), 0.0, attempts=2) == Take("small:8b", "2 attempts have failed", "big:70b")
    assert route(("m",), shut(), 0.0, attempts=9) == Take("m", "")


@given(
    chain=st.lists(st.sampled_from("abcdef"), min_size=1, unique=True),
    open_until=st.dictionaries(st.sampled_from("abcdef"), st.floats(1, 100)),
    tried=st.sets(st.sampled_from("abcdef")),
    attempts=st.integers(0, 10),
)
def test_a_route_is_always_right(chain, open_until, tried, attempts) -> None:
    """Whatever is taken is in the chain, untried and closed; it waits only if all are open; and never for too long."""
    found = route(chain, shut(**open_until), 0.0, attempts=attempts, tried=tried)
    left = [model for model in chain if model not in tried]
    match found:
        case Take():
            assert found.model in left
            assert found.model not in open_until
            assert (found.fallback_from is None) == (found.model == chain[0]) == (found.reason == "")
        case Wait():
            assert left
            assert found.until == min(open_until[model] for model in left)
        case Exhausted():
            assert not left


# -- what a failure says and goes on to


@pytest.mark.parametrize(
    ("code", "counts", "goes_on"),
    [
        ("model_not_found", Counts.ANSWERED, True),
        ("load_failed", Counts.FAILURE, True),
        ("backend_failed", Counts.FAILURE, False),
        ("backend_stalled", Counts.FAILURE, False),
        ("incomplete", Counts.FAILURE, False),
        ("runner_died", Counts.FAILURE, False),
        ("backend_unreachable", Counts.UNREACHABLE, False),
        ("backend_busy", Counts.ANSWERED, False),
        ("refused", Counts.ANSWERED, False),
        ("timeout", Counts.NOTHING, False),
    ],
)
def test_what_a_failure_comes_to(code: str, counts: Counts, goes_on: bool) -> None:
    """A missing model and one that can't be loaded go on at once; full servers and refused requests open nothing."""
    handling = handling_of(BackendError(ErrorKind.RETRYABLE, code, "reason"))
    assert (handling.counts, handling.goes_on) == (counts, goes_on)


@pytest.mark.parametrize(
    ("kind", "counts"),
    [
        (ErrorKind.PERMANENT, Counts.ANSWERED),
        (ErrorKind.RETRYABLE, Counts.FAILURE),
        (ErrorKind.UNAVAILABLE, Counts.ANSWERED),
    ],
)
def test_an_unknown_code_is_handled_by_its_kind(kind: ErrorKind, counts: Counts) -> None:
    """Only what costs the job an attempt counts against the model."""
    handling = handling_of(BackendError(kind, "new", "reason"))
    assert (handling.counts, handling.goes_on) == (counts, False)


def test_every_code_of_a_backend_has_its_row() -> None:
    """Whoever adds a code says what it means for the breakers and the chain."""
    package = Path(llmpool_worker.__file__).parent
    sources = [*(package / "backends").glob("*.py"), package / "runner.py"]
    assert {code for source in sources for code in codes_in(source)} - HANDLING.keys() == set()


# -- settings


@pytest.mark.parametrize(
    "text",
    [
        "big:70b=small:8b,other;next=a:1",
        " big:70b = small:8b , other ; next=a:1; ",
        '{"big:70b":["small:8b","other"],"next":["a:1"]}',
    ],
    ids=["pairs", "spaced", "json"],
)
def test_fallbacks_are_read_in_both_forms(text: str) -> None:
    """Pairs for a shell, JSON for programs."""
    assert read_fallbacks(text) == {"big:70b": ("small:8b", "other"), "next": ("a:1",)}
    assert read_fallbacks("") == {}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("big", "'big': wanted model=fallback"),
        ("big=", "big: got 0 fallbacks, allowed are 1 to 8"),
        ("a=b;a:latest=c", "a:latest is there twice"),
        ("a=" + ",".join("bcdefghij"), "a: got 9 fallbacks"),
        ("a=b c", "'b c' is no model's name"),
        ("{nope", "not JSON"),
        ('{"a": "b"}', "a: wanted a list of names"),
        ('{"a": {"b": 1}}', "a: wanted a list of names"),
        ('{"a": ["b"], "a": ["c"]}', "a is there twice"),
        ("a=x:cloud", "MODEL_FALLBACKS: got x:cloud: Ollama would send it"),
    ],
)
def test_wrong_fallbacks_stop_the_start(text: str, fault: str) -> None:
    """With the variable's name and the part that is at fault."""
    with pytest.raises(SettingsError, match="MODEL_FALLBACKS") as caught:
        load({"model_fallbacks": text})
    assert fault in str(caught.value)


def test_fallbacks_must_be_allowed() -> None:
    """A fallback that could never be taken is a mistake."""
    with pytest.raises(SettingsError, match=r"MODEL_FALLBACKS: got b, allowed are a:latest \(ALLOWED_MODELS\)"):
        load({"allowed_models": "a", "model_fallbacks": "a=b"})


@pytest.mark.parametrize(
    ("text", "names"), [("", ()), ("*", ()), ("a, b:1,", ("a", "b:1"))], ids=["unset", "star", "names"]
)
def test_allowed_models_are_read(text: str, names: tuple[str, ...]) -> None:
    """Comma-separated, unset or * for any."""
    assert read_allowed(text) == names


@pytest.mark.parametrize("text", ["a,*", "a b", "x:cloud"])
def test_wrong_allowed_models_stop_the_start(text: str) -> None:
    """A star among names, a broken name, and what may never be allowed."""
    with pytest.raises(SettingsError, match="ALLOWED_MODELS"):
        load({"allowed_models": text})


def test_a_configuration_file_s_lists_and_mappings_are_taken() -> None:
    """What is a list or a mapping already needs no text of its own kind."""
    settings = load({"allowed_models": ["a", "b"], "model_fallbacks": {"a": ["b"]}})
    assert make_chains(settings).of(job("a")) == ("a", "b")


def test_guards_are_what_the_settings_say() -> None:
    """Milliseconds become seconds, and what is unset is off."""
    plain = load({"worker_timeout": 300_000})
    assert make_breaker_rules(plain) == BreakerRules(probe_max_age_s=360.0)
    off = make_breaker_rules(load({"circuit_breaker_window": 0, "circuit_breaker_slow_call": 1_500}))
    assert (off.window_s, off.slow_call_s) == (None, 1.5)
    assert make_gate(plain).allowed == plain.worker_concurrency
    assert make_retry_budget(plain).balance(0.0) == pytest.approx(6.0)
    switched_off = make_breakers(load({"enable_circuit_breaker": False}), lambda *_: None)
    for _ in range(9):
        permit = switched_off.allow("s", "m", 0.0)
        assert not isinstance(permit, Open)
        permit.failed(0.0)
    assert switched_off.snapshot(0.0) == {}
