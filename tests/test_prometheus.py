"""Asking Prometheus: beside the loop, with ages, within bounds, and nowhere it shouldn't."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpool_operator.addresses import ForbiddenAddress, GuardedResolver, is_forbidden
from llmpool_operator.decide.types import Missing
from llmpool_operator.prometheus import MAX_BYTES, Heard, Prometheus, shown
from llmpool_operator.promql import Sample, one_value, parse_answer
from tests.support.scripted_prometheus import ASKED_AT, ScriptedPrometheus, scalar, vector
from tests.support.waiting import eventually


class Clock:
    """Monotonic seconds that the test turns."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A client, its clock, and a server."""

    def __init__(self, server: ScriptedPrometheus, *, allow_loopback: bool = True) -> None:
        self.clock = Clock()
        self.server = server
        self.client = Prometheus(self.clock, allow_loopback=allow_loopback)

    def ask(self, query: str = "q", url: str | None = None) -> Heard | Missing:
        return self.client.ask(url or self.server.url, query)

    async def told(self, query: str = "q", url: str | None = None) -> Heard | Missing:
        """What is known once the question in progress has ended."""
        self.ask(query, url)
        await self.quiet()
        return self.ask(query, url)

    async def quiet(self) -> None:
        def ended() -> bool:
            return not any(task.get_name() == "prometheus" for task in asyncio.all_tasks())

        async def probe() -> bool:
            return ended()

        await eventually(probe, 10, "an end of all questions")


@asynccontextmanager
async def bench(*, allow_loopback: bool = True) -> AsyncIterator[Bench]:
    async with ScriptedPrometheus() as server:
        made = Bench(server, allow_loopback=allow_loopback)
        try:
            yield made
        finally:
            await made.client.close()


# --- answers


@pytest.mark.parametrize(
    ("body", "value"),
    [
        pytest.param(vector("3"), Fraction(3), id="one"),
        pytest.param(vector(({"job": "x"}, "0.1")), Fraction(1, 10), id="exact"),
        pytest.param(vector("0"), Fraction(0), id="zero is a value"),
        pytest.param(vector("1e12"), Fraction(10**12), id="large"),
        pytest.param(scalar("2.5"), Fraction(5, 2), id="scalar"),
        pytest.param(vector(), Missing("PrometheusNoValue"), id="none"),
        pytest.param(vector("1", "2"), Missing("PrometheusManyValues"), id="several"),
        pytest.param(vector("NaN"), Missing("PrometheusNotANumber"), id="nan"),
        pytest.param(vector("+Inf"), Missing("PrometheusNotANumber"), id="infinite"),
        pytest.param(vector("1e999999999"), Missing("PrometheusNotANumber"), id="beyond all floats"),
        pytest.param(vector("-1"), Missing("PrometheusNegative"), id="negative"),
        pytest.param(vector("s3cret"), Missing("PrometheusNotAnAnswer"), id="no number"),
        pytest.param('{"status":"error","error":"s3cret"}', Missing("PrometheusNotAnAnswer"), id="an error"),
        pytest.param("<html>s3cret</html>", Missing("PrometheusNotAnAnswer"), id="no JSON"),
        pytest.param("[" * 100_000, Missing("PrometheusNotAnAnswer"), id="too deep"),
        pytest.param("[1]", Missing("PrometheusNotAnAnswer"), id="another shape"),
        pytest.param('{"status":"success","data":null}', Missing("PrometheusNotAnAnswer"), id="no data"),
        pytest.param(vector("1").replace("vector", "matrix"), Missing("PrometheusNotAnAnswer"), id="a range"),
        pytest.param(vector("1").replace(str(ASKED_AT), "NaN"), Missing("PrometheusNotAnAnswer"), id="no time"),
        pytest.param(vector("1").replace(str(ASKED_AT), "9" * 5000), Missing("PrometheusNotAnAnswer"), id="huge time"),
        pytest.param(vector("1").replace(str(ASKED_AT), "9" * 400), Missing("PrometheusNotAnAnswer"), id="vast time"),
        pytest.param(vector("1").replace("{}", "7"), Missing("PrometheusNotAnAnswer"), id="no labels"),
    ],
)
def test_what_answers_say(body: str, value: Fraction | Missing) -> None:
    """One finite number that isn't negative is a value; all else is Missing by a fixed word, never by the body."""
    samples = parse_answer(body.encode())
    assert (samples if isinstance(samples, Missing) else one_value(samples)) == value


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
ANYTHING = st.recursive(PLAIN, lambda of: st.lists(of) | st.dictionaries(st.text(), of))
KEYS = st.sampled_from(["status", "data", "resultType", "result", "metric", "value"])
NEARLY = st.recursive(
    ANYTHING | st.sampled_from(["success", "vector", "scalar"]), lambda of: st.lists(of) | st.dictionaries(KEYS, of)
)


@given(st.binary() | NEARLY.map(lambda value: json.dumps(value).encode()))
def test_no_answer_breaks_the_reading(body: bytes) -> None:
    """Whatever a server writes is samples, or Missing by a word of ours."""
    samples = parse_answer(body)
    value = samples if isinstance(samples, Missing) else one_value(samples)
    assert isinstance(value, Fraction) or value.reason.startswith("Prometheus")


# --- asking


async def test_an_answer_comes_beside_the_loop_and_grows_old() -> None:
    """The first question is Missing until its answer is there; then that has an age, and is asked for anew each 5 s."""
    async with bench() as made:
        assert made.ask() == Missing(f"PrometheusNotYetRead at 127.0.0.1:{made.server.port}")
        assert await made.told() == Heard((Sample({}, 1.0, ASKED_AT),), age=0.0)
        made.clock.now = 4.9
        heard = await made.told()
        assert isinstance(heard, Heard)
        assert heard.age == pytest.approx(4.9)
        made.clock.now = 5.0
        assert await made.told() == Heard((Sample({}, 1.0, ASKED_AT),), age=0.0)
        assert made.server.asked == [{"path": "/api/v1/query", "query": "q", "timeout": "5s"}] * 2


async def test_who_can_wait_asks_less_often() -> None:
    """A question is asked anew after its own time; of two that ask the same, who wants it sooner counts."""
    async with bench() as made:
        await made.told()
        made.clock.now = 29.9
        made.client.ask(made.server.url, "q", refresh=30.0)
        await made.quiet()
        assert len(made.server.asked) == 1
        made.client.ask(made.server.url, "q")
        await made.quiet()
        assert len(made.server.asked) == 2


async def test_a_path_before_the_api_is_kept() -> None:
    """Mimir, Thanos behind a gateway: the address may have a path."""
    async with bench() as made:
        await made.told(url=f"{made.server.url}/prometheus/")
        assert made.server.asked[0]["path"] == "/prometheus/api/v1/query"


async def test_a_slow_server_delays_no_decision() -> None:
    """While an answer is awaited the last one stands, however often one asks; and only one question is on its way."""
    async with bench() as made:
        await made.told()
        made.server.open.clear()
        made.server.body = vector("7")
        for made.clock.now in (6.0, 12.0, 18.0):
            heard = made.ask()
            await made.server.asked_times(2)
            assert isinstance(heard, Heard)
            assert (heard.samples[0].value, heard.age) == (1.0, made.clock.now)
        made.server.open.set()
        await made.quiet()
        assert len(made.server.asked) == 2
        heard = made.ask()
        assert isinstance(heard, Heard)
        assert (heard.samples[0].value, heard.age) == (7.0, 12.0), "as old as the question that it answers"


async def test_failures_are_outlived_for_a_minute() -> None:
    """A server that fails leaves the last answer standing for 60 s, then it is Missing by the failure's word."""
    async with bench() as made:
        await made.told()
        made.server.status = 503
        for made.clock.now in (30.0, 60.0):
            assert isinstance(await made.told(), Heard)
        made.clock.now = 60.1
        assert await made.told() == Missing(f"PrometheusError at 127.0.0.1:{made.server.port}")
        made.server.status = 200
        made.clock.now = 66.0
        assert isinstance(await made.told(), Heard)


async def test_an_answer_without_a_value_replaces_one_with_it() -> None:
    """What is known to have no value any more isn't outlived."""
    async with bench() as made:
        await made.told()
        made.server.body, made.clock.now = vector(), 5.0
        heard = await made.told()
        assert isinstance(heard, Heard)
        assert heard.samples == ()
        made.server.body, made.clock.now = "no JSON", 10.0
        assert await made.told() == Missing(f"PrometheusNotAnAnswer at 127.0.0.1:{made.server.port}")


@pytest.mark.parametrize(
    ("status", "headers", "word"),
    [
        pytest.param(400, {}, "PrometheusBadQuery", id="a wrong query"),
        pytest.param(422, {}, "PrometheusBadQuery", id="a query that can't be run"),
        pytest.param(401, {}, "PrometheusAuth", id="a login is wanted"),
        pytest.param(302, {"Location": "/elsewhere"}, "PrometheusRedirect", id="a redirect"),
        pytest.param(500, {}, "PrometheusError", id="an error"),
    ],
)
async def test_statuses_have_words(status: int, headers: dict[str, str], word: str) -> None:
    """What isn't an answer is Missing; a redirect isn't followed, and nothing of the body is told."""
    async with bench() as made:
        made.server.status, made.server.headers, made.server.body = status, headers, "s3cret"
        assert await made.told() == Missing(f"{word} at 127.0.0.1:{made.server.port}")
        assert len(made.server.asked) == 1


async def test_a_large_answer_is_not_taken() -> None:
    """More than a megabyte is refused, without being held."""
    async with bench() as made:
        made.server.body = b" " * (MAX_BYTES + 1)
        assert await made.told() == Missing(f"PrometheusTooLarge at 127.0.0.1:{made.server.port}")


async def test_nobody_listens() -> None:
    """A server that is away is Missing."""
    async with bench() as made:
        url, port = made.server.url, made.server.port
        await made.server._runner.cleanup()
        assert await made.told(url=url) == Missing(f"PrometheusUnreachable at 127.0.0.1:{port}")


async def test_a_host_without_an_address() -> None:
    """A name that nobody knows is Missing."""
    async with bench() as made:
        assert await made.told(url="http://nobody.invalid:9090") == Missing(
            "PrometheusUnknownHost at nobody.invalid:9090"
        )


async def test_an_address_that_is_none() -> None:
    """Asking there raises nothing, and is Missing."""
    async with bench() as made:
        assert await made.told(url="http://[bad") == Missing("PrometheusUnreachable at an address that can't be read")
        assert shown("http://h:9090/x") == "h:9090"


async def test_unused_questions_are_forgotten() -> None:
    """Pools that are gone leave no questions behind."""
    async with bench() as made:
        await made.told("old")
        made.clock.now = 121.0
        await made.told("new")
        assert list(made.client._servers[made.server.url].questions) == ["new"]


async def test_an_end_amid_questions() -> None:
    """Closing waits for no answer."""
    async with bench() as made:
        made.server.open.clear()
        made.ask()
        await asyncio.wait_for(made.client.close(), 5)


async def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment isn't used: it would be asked for addresses that are checked here."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with bench() as made:
        assert isinstance(await made.told(), Heard)


# --- addresses


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "0x7f000001",
        "0x7f.1",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
    ],
)
async def test_this_machine_and_metadata_are_not_asked(host: str) -> None:
    """Unless that is allowed, no name and no spelling leads to the operator's own machine; to metadata none ever."""
    async with bench(allow_loopback=False) as made:
        url = f"http://{host}:{made.server.port}"
        assert await made.told(url=url) == Missing(f"PrometheusForbidden at {host}:{made.server.port}")
        assert made.server.asked == []


@pytest.mark.parametrize(
    ("text", "forbidden"),
    [
        pytest.param("10.96.0.10", False, id="a Service"),
        pytest.param("192.168.1.7", False, id="a private network"),
        pytest.param("93.184.215.14", False, id="anywhere"),
        pytest.param("fd12::7", False, id="a private IPv6 network"),
        pytest.param("2606:2800:21f::1", False, id="anywhere by IPv6"),
        pytest.param("127.8.8.8", True, id="loopback"),
        pytest.param("::1", True, id="loopback by IPv6"),
        pytest.param("169.254.169.254", True, id="metadata"),
        pytest.param("fe80::1", True, id="link-local"),
        pytest.param("fd00:ec2::254", True, id="metadata by IPv6"),
        pytest.param("100.100.100.200", True, id="another cloud's"),
        pytest.param("168.63.129.16", True, id="a third one's"),
        pytest.param("::ffff:169.254.169.254", True, id="mapped"),
        pytest.param("64:ff9b::a9fe:a9fe", True, id="translated"),
        pytest.param("2002:a9fe:a9fe::1", True, id="tunnelled"),
        pytest.param("0.0.0.0", True, id="none"),
        pytest.param("::", True, id="none by IPv6"),
        pytest.param("224.0.0.1", True, id="many"),
        pytest.param("255.255.255.255", True, id="all"),
    ],
)
def test_which_addresses_are_forbidden(text: str, forbidden: bool) -> None:
    """Link-local ones, clouds' metadata, the machine itself, however they are written."""
    assert is_forbidden(ip_address(text), allow_loopback=False) == forbidden


async def test_what_was_looked_at_is_what_is_connected_to() -> None:
    """The resolver gives numeric addresses, so that a name can't mean another one a moment later."""
    resolver = GuardedResolver(allow_loopback=True)
    try:
        found = await resolver.resolve("localhost", 80)
        assert {one["host"] for one in found} == {"127.0.0.1"}
        strict = GuardedResolver(allow_loopback=False)
        with pytest.raises(ForbiddenAddress):
            await strict.resolve("localhost", 80)
        await strict.close()
    finally:
        await resolver.close()
