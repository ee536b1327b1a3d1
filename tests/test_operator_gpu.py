"""GPUs and models as the operator reads them: from the workers' reports, else from DCGM's exporter by Prometheus."""

import re
from fractions import Fraction
from typing import Any

import pytest

from llmpool_contract import WorkerReport, WorkerState
from llmpool_contract.pool import LLMWorkerPool, parse_pool
from llmpool_operator.decide.types import Finding, Missing, Observation
from llmpool_operator.gpu import GPU, GPUReading, dcgm_query, of_samples, of_workers
from llmpool_operator.models import ModelState, model_states, models_ready
from llmpool_operator.observe import nothing_known
from llmpool_operator.prometheus import Prometheus
from llmpool_operator.promql import Sample
from llmpool_operator.sightings import completed, wish_of
from llmpool_operator.targets.base import Sighting
from tests.support.scripted_prometheus import ASKED_AT, ScriptedPrometheus, vector
from tests.support.waiting import eventually

GIB = 2**30
MIB = 2**20
AT = 500.0


def report(worker: str, at_ms: int = 100_000, **fields: Any) -> WorkerReport:
    given = {"state": WorkerState.READY, "in_flight": 0, "capacity": 5, "queues": [], **fields}
    return WorkerReport.model_validate({"worker": worker, "pool": "ns/chat", "at_ms": at_ms, **given})


def card(index: int, utilization: float | None, used: int | None = None, total: int | None = None) -> dict[str, Any]:
    memory = {"memory_used_bytes": used, "memory_total_bytes": total}
    return {"index": index, "name": "card", "utilization": utilization, **memory}


def of(*reports: WorkerReport, shared: bool = False) -> GPUReading | None:
    return of_workers({one.worker: one for one in reports}, shared=shared, at=AT, redis_ms=101_000)


# --- from reports


def test_workers_with_gpus_of_their_own_add_up() -> None:
    """Utilisation is the workers' mean, memory their sum, and each pod has its own sample with its own time."""
    reading = of(
        report("w1", gpus=[card(0, 0.5, 2 * GIB, 8 * GIB), card(1, 1.0, 4 * GIB, 8 * GIB)]),
        report("w2", at_ms=99_000, gpus=[card(0, 0.25, 1 * GIB, 16 * GIB)]),
        report("w3"),
    )
    assert reading == GPUReading(
        GPU(0.5, 7 * GIB, 32 * GIB, "workers", AT - 2, shared=False), {"w1": (75.0, AT - 1), "w2": (25.0, AT - 2)}
    )


def test_workers_of_one_server_see_the_same_cards() -> None:
    """On a shared server nothing is counted twice: who sees most speaks for all, and no pod has a GPU of its own."""
    reading = of(
        report("w1", gpus=[card(0, 0.5, 2 * GIB, 8 * GIB), card(1, 1.0, 2 * GIB, 8 * GIB)]),
        report("w2", gpus=[card(0, 0.5, 2 * GIB, 8 * GIB)]),
        shared=True,
    )
    assert reading == GPUReading(GPU(0.75, 4 * GIB, 16 * GIB, "workers", AT - 1, shared=True), {})


@pytest.mark.parametrize(
    ("gpus", "gpu"),
    [
        pytest.param([card(0, None, 1, 2)], (None, 1, 2), id="memory alone, as MIG tells"),
        pytest.param([card(0, 0.5)], (0.5, None, None), id="utilisation alone"),
        pytest.param([card(0, 0.5, 1, 2), card(1, None, 5, None)], (0.5, 1, 2), id="one number of two"),
        pytest.param([card(0, 7.5, -1, 2)], (None, None, None), id="absurd ones"),
    ],
)
def test_what_a_card_does_not_tell(
    gpus: list[dict[str, Any]], gpu: tuple[float | None, int | None, int | None]
) -> None:
    """Is None, never zero, and takes nothing from what others tell."""
    reading = of(report("w1", gpus=gpus))
    assert reading is not None
    assert isinstance(reading.whole, GPU)
    assert (reading.whole.utilization, reading.whole.memory_used_bytes, reading.whole.memory_total_bytes) == gpu


def test_no_gpu_is_no_reading() -> None:
    """Workers without GPUs tell nothing, so that others can be asked."""
    assert of(report("w1"), report("w2", gpus=[])) is None


# --- from Prometheus


def told(pod: str, *, exported: bool = False, age: float = 10.0, **readings: float) -> list[Sample]:
    labels = {"exported_pod": pod, "pod": "dcgm-exporter-x"} if exported else {"pod": pod}
    values = {"at": ASKED_AT - age, **readings}
    return [Sample({**labels, "reading": name}, value, ASKED_AT) for name, value in values.items()]


def test_dcgm_s_samples_by_pod() -> None:
    """Percent, MiB, and the sample's own time, which is another than that of the question; both kinds of labels."""
    reading = of_samples(
        [
            *told("chat-1-a", percent=80.0, used=1000.0, free=7000.0),
            *told("chat-1-b", exported=True, age=30.0, percent=40.0, used=500.0, free=7500.0),
        ],
        shared=False,
        at=AT,
    )
    assert reading == GPUReading(
        GPU(0.6, 1500 * MIB, 16_000 * MIB, "prometheus", AT - 30, shared=False),
        {"chat-1-a": (80.0, AT - 10), "chat-1-b": (40.0, AT - 30)},
    )


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param([], id="none"),
        pytest.param(told("p", age=121.0, percent=80.0), id="old"),
        pytest.param([Sample({"pod": "p", "reading": "percent"}, 80.0, ASKED_AT)], id="without a time"),
        pytest.param([Sample({"reading": "percent"}, 80.0, ASKED_AT)], id="without a pod"),
    ],
)
def test_samples_that_say_nothing(samples: list[Sample]) -> None:
    """Old ones, which Prometheus repeats for minutes, and those of nobody: Missing."""
    assert of_samples(samples, shared=False, at=AT) == GPUReading(Missing("Prometheus knows no GPU of the pool"), {})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 100.5, 2**31], ids=str)
def test_absurd_samples_are_no_samples(value: float) -> None:
    """DCGM writes large numbers where it has none: no percent, and no memory of a half."""
    reading = of_samples(told("p", percent=value, used=1.0), shared=True, at=AT)
    assert reading == GPUReading(GPU(None, None, None, "prometheus", AT - 10, shared=True), {})


def pool(**spec: Any) -> LLMWorkerPool:
    given = {"queues": [{"name": "llm-chat"}], "redis": {"url": "redis://r"}, **spec}
    metadata = {"name": "chat", "namespace": "lms"}
    document = {"apiVersion": "llmpool.dev/v1alpha1", "kind": "LLMWorkerPool", "metadata": metadata, "spec": given}
    return parse_pool(document)


SERVICE = {"service": {"name": "prometheus"}}
OF_DEPLOYMENT = "-[bcdf-hj-np-tv-z2456789]{1,10}-[bcdf-hj-np-tv-z2456789]{5}"


@pytest.mark.parametrize(
    ("spec", "pods"),
    [
        pytest.param({"ollama": {"sidecar": {}}}, f"chat{OF_DEPLOYMENT}", id="its own pods"),
        pytest.param(
            {"ollama": {"sidecar": {}}, "mode": "Observe", "target": {"name": "old.workers"}},
            f"old[.]workers{OF_DEPLOYMENT}",
            id="the pods that it looks at",
        ),
        pytest.param(
            {"ollama": {"service": {"name": "ollama"}}}, f"ollama(-[0-9]+|{OF_DEPLOYMENT})", id="the server's pods"
        ),
        pytest.param({"ollama": {"url": "http://gpu-box:11434"}}, None, id="a server that has no pods"),
    ],
)
def test_whose_gpus_are_asked_for(spec: dict[str, Any], pods: str | None) -> None:
    """The pods that have the pool's GPUs, in the pool's own namespace."""
    wish = wish_of(pool(prometheus=SERVICE, **spec))
    assert wish.questions.gpu_query == (None if pods is None else dcgm_query("lms", pods))
    assert wish.questions.prometheus == "http://prometheus.lms.svc:9090"
    assert wish_of(pool(**spec)).questions.gpu_query is None, "nobody to ask"


@pytest.mark.parametrize(
    ("name", "own", "server"),
    [
        pytest.param("{}-7d4b9c6f5-x2x7k", True, True, id="a Deployment's"),
        pytest.param("{}-66b8d4-zzzzz", True, True, id="a short hash"),
        pytest.param("{}-12", False, True, id="a StatefulSet's"),
        pytest.param("{}-webui-0", False, False, id="another StatefulSet's"),
        pytest.param("{}-webui-7d4b9c6f5-x2x7k", False, False, id="another Deployment's"),
        pytest.param("{}-exporter-x2x7k", False, False, id="a DaemonSet's"),
        pytest.param("{}-debug", False, False, id="a pod by hand"),
    ],
)
def test_which_pods_are_taken_for_the_pool_s(name: str, own: bool, server: bool) -> None:
    """Those that Kubernetes names after the workload itself, not those of one whose name begins with it."""
    given = {"chat": ({"sidecar": {}}, own), "ollama": ({"service": {"name": "ollama"}}, server)}
    for workload, (ollama, wanted) in given.items():
        query = wish_of(pool(prometheus=SERVICE, ollama=ollama)).questions.gpu_query
        assert query is not None
        pattern = query.partition(',pod=~"')[2].partition('"')[0]
        assert (re.fullmatch(pattern, name.format(workload)) is not None) == wanted


# --- both, beside Redis

METRIC = {"type": "Prometheus", "prometheus": {"query": "sum(load)", "averageValue": 3}}
SIDECAR = {"prometheus": SERVICE, "ollama": {"sidecar": {}}, "scaling": {"metrics": [METRIC]}}


def seen(*reports: WorkerReport) -> Sighting:
    missing = Missing("not read")
    return Sighting(Observation(AT, {}), missing, {one.worker: one for one in reports}, missing, redis_ms=101_000)


async def whole(sighting: Sighting, body: str) -> tuple[Sighting, list[str]]:
    """What a sighting comes to once Prometheus has answered, and what it was asked."""
    async with ScriptedPrometheus() as server:
        server.body = body
        wish = wish_of(pool(**SIDECAR), prometheus_url=server.url)
        client = Prometheus(lambda: 0.0, allow_loopback=True)
        try:
            first = completed(wish, sighting, client)
            assert isinstance(first.observation.queries["sum(load)"], Missing)
            wanted = 2 if isinstance(first.gpu, Missing) else 1
            await server.asked_times(wanted)

            async def answered() -> bool:
                told = completed(wish, sighting, client)
                return "NotYetRead" not in f"{told.observation.queries} {told.gpu}"

            await eventually(answered, 10, "an answer to each question")
            return completed(wish, sighting, client), [one["query"] for one in server.asked]
        finally:
            await client.close()


async def test_queries_and_gpus_are_part_of_a_sighting() -> None:
    """A metric's query becomes a value with its time; where no worker tells of a GPU, Prometheus is asked."""
    sighting, queries = await whole(seen(report("w1")), vector("7.5"))
    assert sighting.observation.queries == {"sum(load)": Fraction("7.5")}
    assert sighting.observation.queried_at == {"sum(load)": AT}
    assert sighting.gpu == Missing("Prometheus knows no GPU of the pool")
    assert sorted(queries) == sorted(["sum(load)", dcgm_query("lms", f"chat{OF_DEPLOYMENT}")])


async def test_workers_that_tell_spare_the_question() -> None:
    """What the workers say counts, and nobody else is asked for it."""
    sighting, queries = await whole(seen(report("w1", gpus=[card(0, 0.5)])), vector())
    assert isinstance(sighting.gpu, GPU)
    assert sighting.gpu.source == "workers"
    assert sighting.gpu_sample("w1") == (50.0, AT - 1)
    assert sighting.gpu_sample("w2") is None
    assert queries == ["sum(load)"]
    reason = sighting.observation.queries["sum(load)"]
    assert isinstance(reason, Missing)
    assert reason.reason.startswith("PrometheusNoValue at 127.0.0.1:")


@pytest.mark.parametrize(
    ("metrics", "times"),
    [
        pytest.param([METRIC], 1, id="only told"),
        pytest.param([METRIC, {"type": "GPUUtilization"}], 2, id="a metric goes by them"),
    ],
)
async def test_gpus_that_no_metric_goes_by_are_asked_for_less_often(metrics: list[Any], times: int) -> None:
    """Readings that are only told are asked for every 30 s, a metric's every 5, as its queries are."""
    now = 0.0
    async with ScriptedPrometheus() as server:
        wish = wish_of(pool(**{**SIDECAR, "scaling": {"metrics": metrics}}), prometheus_url=server.url)
        client = Prometheus(lambda: now, allow_loopback=True)

        async def asked(gpus: int, queries: int) -> bool:
            told = [one["query"] for one in server.asked]
            return (told.count(wish.questions.gpu_query or ""), told.count("sum(load)")) == (gpus, queries)

        async def answered() -> bool:
            told = completed(wish, seen(), client)
            return "NotYetRead" not in f"{told.observation.queries} {told.gpu}"

        try:
            await eventually(answered, 10, "an answer to each question")
            assert await asked(1, 1)
            now = 29.0
            completed(wish, seen(), client)
            await eventually(lambda: asked(times, 2), 10, "the metrics' questions, and no others")
        finally:
            await client.close()


async def test_prometheus_is_asked_while_redis_is_away() -> None:
    """One source that is away takes no other with it."""
    wish = wish_of(pool(**SIDECAR))
    sighting, _ = await whole(nothing_known(wish, Missing("RedisTimeout"), at=AT), vector("1"))
    assert sighting.observation.queries == {"sum(load)": Fraction(1)}
    assert sighting.observation.queues == {"llm-chat": Missing("RedisTimeout")}


def test_pods_of_a_shared_server_have_its_sample() -> None:
    """Whatever their names: it is the same server for each."""
    gpu = GPU(0.75, None, None, "prometheus", AT, shared=True)
    assert Sighting(Observation(AT, {}), Missing("x"), gpu=gpu).gpu_sample("any") == (75.0, AT)


# --- models


def holding(worker: str, state: WorkerState = WorkerState.READY, **models: str) -> WorkerReport:
    told = [
        {"name": name.replace("_", ":"), "state": state.partition("!")[0], "error": state.partition("!")[2] or None}
        for name, state in models.items()
    ]
    return report(worker, state=state, models=told)


def test_models_are_counted_by_worker() -> None:
    """Ready of all that should hold it, by the model and not by its spelling; ending workers don't count."""
    reports = [
        holding("w1", a="ready", b_7b="loading"),
        holding("w2", WorkerState.STARTING, a_latest="ready", b_7b="failed!no_room: too large"),
        holding("w3", a="waiting", b_7b="failed!no_room: too large"),
        holding("w4", WorkerState.DRAINING, a="ready"),
        holding("w5", WorkerState.DRAINED, a="ready"),
        report("w6"),
    ]
    assert model_states(["a", "b:7b", "c"], {one.worker: one for one in reports}) == (
        ModelState("a", 2, 4),
        ModelState("b:7b", 0, 4, "no_room: too large"),
        ModelState("c", 0, 4),
    )


def test_the_most_frequent_error_is_told() -> None:
    """The same one each time, printable and bounded, whatever a worker writes."""
    odd = "pull: \x1b[31m" + "x" * 1000
    reports = [
        holding(f"w{n}", a=f"failed!{error}") for n, error in enumerate(["one: b", odd, odd, "one: b", "one: a"])
    ]
    [state] = model_states(["a"], {one.worker: one for one in reports})
    assert state.error == "one: b"
    [state] = model_states(["a"], {"w": holding("w", a=f"failed!{odd}")})
    assert state.error is not None
    assert state.error.isprintable()
    assert len(state.error) == 200


@pytest.mark.parametrize(
    ("preload", "reports", "status", "reason"),
    [
        pytest.param([], {}, "True", "NothingToPreload", id="no list"),
        pytest.param(["a"], Missing("RedisTimeout"), "Unknown", "ReportsMissing", id="nobody can be heard"),
        pytest.param(["a"], {}, "Unknown", "NoWorkers", id="at zero"),
        pytest.param(["a"], {"w": holding("w", a="loading")}, "False", "Loading", id="loading"),
        pytest.param(["a"], {"w": holding("w", a="failed!x: y")}, "False", "ModelFailed", id="failed"),
        pytest.param(["a"], {"w": holding("w", a="ready")}, "True", "AllReady", id="ready"),
    ],
)
def test_the_condition(preload: list[str], reports: Any, status: str, reason: str) -> None:
    """True only where every worker holds every model; without workers nobody knows."""
    finding = models_ready(preload, reports)
    assert isinstance(finding, Finding)
    assert (finding.type, finding.status, finding.reason) == ("ModelsReady", status, reason)
