"""`llmpool import`: a pool that observes, from what scales workers today, and honest about what it left behind."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from llmpool_cli.main import app
from llmpool_contract.pool import LLMWorkerPool, load_pool
from llmpool_operator.kube import KubeAPI, pools_path
from tests.support.control_plane import ControlPlane
from tests.support.operator_process import apply_crd

LIST = {"type": "redis", "metadata": {"address": "redis-master:6379", "listName": "llm-chat", "listLength": "5"}}


def scaled(*triggers: dict[str, Any], annotations: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """A ScaledObject, of one Redis list unless triggers are given."""
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "chat", "namespace": "lms", "annotations": annotations or {}},
        "spec": {"scaleTargetRef": {"name": "chat-workers"}, "triggers": list(triggers) or [LIST], **spec},
    }


def autoscaler(**spec: Any) -> dict[str, Any]:
    """An HPA with one External metric, as kubectl prints it."""
    metric = {"external": {"metric": {"name": "jobs"}, "target": {"type": "AverageValue", "averageValue": "4"}}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "chat", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat-workers"},
            "minReplicas": 2,
            "maxReplicas": 20,
            "metrics": [{"type": "External", **metric}],
            **spec,
        },
        "status": {"currentReplicas": 3, "currentMetrics": None},
    }


def trigger(kind: str, metadata: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"type": kind, "metadata": metadata, **fields}


def redis(**metadata: Any) -> dict[str, Any]:
    return trigger("redis", {**LIST["metadata"], **metadata})


def run(given: Any, *options: str) -> Result:
    kind = "hpa" if isinstance(given, dict) and given.get("kind") == "HorizontalPodAutoscaler" else "scaledobject"
    text = given if isinstance(given, str) else yaml.safe_dump(given)
    return CliRunner().invoke(app, ["import", kind, "-", *options], input=text, env={"COLUMNS": "400"})


def pool_of(given: Any, *options: str) -> LLMWorkerPool:
    """What is printed, read as `kubectl apply` and `llmpool local` would."""
    done = run(given, *options)
    assert done.exit_code == 0, done.output
    return load_pool(done.stdout)


def comments(given: Any, *options: str) -> str:
    """Its comments, as one line each: long ones are wrapped."""
    lines = [line[2:] for line in run(given, *options).stdout.splitlines() if line.startswith("#")]
    return "\n".join(lines).replace("\n  ", " ")


def test_a_scaledobject_becomes_a_pool_that_only_looks() -> None:
    """Bounds, list, target and cooldown are the ScaledObject's, defaults of KEDA included; nothing would be changed."""
    pool = pool_of(scaled())
    spec = pool.spec
    assert (pool.key, spec.mode, spec.target.name if spec.target else "") == ("lms/chat", "Observe", "chat-workers")
    assert [queue.name for queue in spec.queues] == ["llm-chat"]
    assert spec.redis.url == "redis://redis-master:6379"
    assert [metric.queue_depth.average_value for metric in spec.scaling.metrics if metric.queue_depth] == [5]
    assert (spec.scaling.min_replicas, spec.scaling.max_replicas, spec.scaling.idle_seconds) == (0, 100, 300)
    own = pool_of(scaled(minReplicaCount=1, maxReplicaCount=8, cooldownPeriod=60)).spec.scaling
    assert (own.min_replicas, own.max_replicas, own.idle_seconds) == (1, 8, 60)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        pytest.param(redis(databaseIndex="2"), "redis://redis-master:6379/2", id="database"),
        pytest.param(redis(enableTLS="true"), "rediss://redis-master:6379", id="tls"),
        pytest.param(
            redis(enableTLS="true", unsafeSsl="true"), "rediss://redis-master:6379?ssl_cert_reqs=none", id="unsafe"
        ),
        pytest.param(
            trigger("redis", {"host": "r", "port": "1", "listName": "llm-chat"}), "redis://r:1", id="host-and-port"
        ),
        pytest.param(
            trigger("redis-cluster", {"addresses": "a:1, b:2", "listName": "llm-chat"}),
            "redis+cluster://a:1,b:2",
            id="cluster",
        ),
        pytest.param(
            trigger(
                "redis-sentinel",
                {"hosts": "a,b", "ports": "1,2", "sentinelMaster": "m", "databaseIndex": 3, "listName": "llm-chat"},
            ),
            "redis+sentinel://a:1,b:2/m/3",
            id="sentinel",
        ),
    ],
)
def test_addresses_are_taken_over(given: dict[str, Any], url: str) -> None:
    """Each way in which KEDA is told of a Redis."""
    assert pool_of(scaled(given)).spec.redis.url == url


def test_lists_are_weighted_by_their_length() -> None:
    """Where KEDA wants 5 of one list and 20 of another, the second's jobs count a quarter; the difference is told."""
    given = scaled(redis(), redis(listName="llm-embed", listLength="20"))
    spec = pool_of(given).spec
    assert [(queue.name, queue.weight) for queue in spec.queues] == [("llm-chat", 1), ("llm-embed", Decimal("0.25"))]
    assert len(spec.scaling.metrics) == 1
    assert "adds the lists up" in comments(given)


def test_queries_become_metrics() -> None:
    """Query, server and target are the trigger's, the target by its metricType; what differs is told."""
    query = {"serverAddress": "http://prometheus:9090/", "query": "sum(jobs)\n", "threshold": "2.5"}
    given = scaled(
        redis(),
        trigger("prometheus", query),
        trigger("prometheus", {**query, "activationThreshold": "3", "customHeaders": "X=geheim"}, metricType="Value"),
        trigger("prometheus", {**query, "serverAddress": "http://other:9090"}),
    )
    spec = pool_of(given).spec
    assert spec.prometheus is not None
    assert spec.prometheus.url == "http://prometheus:9090"
    blocks = [metric.prometheus for metric in spec.scaling.metrics if metric.prometheus]
    assert [(block.query, block.average_value, block.value) for block in blocks] == [
        ("sum(jobs)", Decimal("2.5"), None),
        ("sum(jobs)", None, Decimal("2.5")),
    ]
    told = comments(given)
    for field in ("[2].metadata.activationThreshold", "[2].metadata.customHeaders", "[3].metadata.serverAddress"):
        assert f"spec.triggers{field}: " in told
    assert "geheim" not in told


def test_cron_becomes_schedules() -> None:
    """The start raises the least, the end takes it back, within the bounds."""
    office = {"timezone": "Europe/Berlin", "start": "0 7 * * 1-5", "end": "0 19 ? * 1-5", "desiredReplicas": "200"}
    given = scaled(redis(), trigger("cron", office), minReplicaCount=1, maxReplicaCount=10)
    schedules = pool_of(given).spec.scaling.schedules
    assert [(one.cron, one.timezone, one.min_replicas) for one in schedules] == [
        ("0 7 * * 1-5", "Europe/Berlin", 10),
        ("0 19 * * 1-5", "Europe/Berlin", 1),
    ]
    assert "desiredReplicas: 200 is more than maxReplicaCount; taken as 10" in comments(given)


def test_fallback_counts_time() -> None:
    """So many failures at so many seconds are a time without metrics."""
    given = scaled(fallback={"failureThreshold": 4, "replicas": 200}, pollingInterval=15)
    fallback = pool_of(given).spec.scaling.fallback
    assert fallback is not None
    assert (fallback.after_seconds, fallback.replicas) == (60, 100)
    held = scaled(fallback={"failureThreshold": 4, "replicas": 2, "behavior": "currentReplicasIfHigher"})
    assert pool_of(held).spec.scaling.fallback is None
    assert "spec.fallback.behavior: currentReplicasIfHigher has no counterpart" in comments(held)


BEHAVIOR = {
    "scaleDown": {"stabilizationWindowSeconds": 60, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]},
    "scaleUp": {"selectPolicy": "Min", "policies": None, "tolerance": "50m"},
}


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(scaled(advanced={"horizontalPodAutoscalerConfig": {"behavior": BEHAVIOR}}), id="ScaledObject"),
        pytest.param(autoscaler(behavior=BEHAVIOR), id="HPA"),
    ],
)
def test_behavior_is_the_same(given: dict[str, Any]) -> None:
    """Field for field; what is null there is absent here."""
    behavior = pool_of(given, "--queue", "llm-chat", "--redis-url", "redis://r").spec.scaling.behavior
    assert behavior is not None
    assert behavior.model_dump(by_alias=True, exclude_none=True) == {
        "scaleDown": BEHAVIOR["scaleDown"],
        "scaleUp": {"selectPolicy": "Min", "tolerance": Decimal("0.050")},
    }


@pytest.mark.parametrize(
    ("annotations", "paused", "replicas"),
    [
        pytest.param({"paused": "true"}, "All", None, id="paused"),
        pytest.param({"paused": "false"}, "None", None, id="not"),
        pytest.param({"paused-scale-in": "true"}, "ScaleIn", None, id="in"),
        pytest.param({"paused-scale-out": "yes"}, "ScaleOut", None, id="out, in a word that isn't a truth value"),
        pytest.param({"paused-scale-in": "true", "paused-scale-out": "true"}, "All", None, id="both"),
        pytest.param({"paused-replicas": "4"}, "None", 4, id="replicas"),
    ],
)
def test_pauses_are_taken_over(annotations: dict[str, str], paused: str, replicas: int | None) -> None:
    """KEDA's annotations are fields of a pool."""
    spec = pool_of(scaled(annotations={f"autoscaling.keda.sh/{k}": v for k, v in annotations.items()})).spec
    assert (spec.paused, spec.replicas) == (paused, replicas)


WITHOUT_COUNTERPART: dict[str, tuple[dict[str, Any], str]] = {
    "polling": (scaled(pollingInterval=30), "spec.pollingInterval"),
    "first cooldown": (scaled(initialCooldownPeriod=60), "spec.initialCooldownPeriod"),
    "idle replicas": (scaled(idleReplicaCount=0, minReplicaCount=3), "spec.idleReplicaCount"),
    "restore": (scaled(advanced={"restoreToOriginalReplicaCount": True}), "spec.advanced.restoreToOriginal"),
    "formula": (scaled(advanced={"scalingModifiers": {"formula": "a+b"}}), "spec.advanced.scalingModifiers"),
    "activation": (scaled(redis(activationListLength="3")), "spec.triggers[0].metadata.activationListLength"),
    "level": (scaled({**redis(), "metricType": "Value"}), "spec.triggers[0].metricType"),
    "password": (scaled(redis(passwordFromEnv="P")), "spec.triggers[0].metadata.passwordFromEnv"),
    "login": (scaled({**redis(), "authenticationRef": {"name": "a"}}), "spec.triggers[0].authenticationRef"),
    "cpu": (scaled(redis(), trigger("cpu", {"value": "50"})), "spec.triggers[1]: a trigger of type cpu"),
    "no behavior": (scaled(), "spec.advanced.horizontalPodAutoscalerConfig.behavior: absent"),
}


@pytest.mark.parametrize(("given", "field"), WITHOUT_COUNTERPART.values(), ids=WITHOUT_COUNTERPART.keys())
def test_what_has_no_counterpart_is_told(given: dict[str, Any], field: str) -> None:
    """Nothing is dropped in silence: a comment names the field."""
    assert f"- {field}" in comments(given)
    pool_of(given)


def test_an_hpa_keeps_its_bounds_and_needs_to_be_told_the_rest() -> None:
    """An External metric's target is kept for the queue that the command line names; everything else is named."""
    resource = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}}
    given = autoscaler()
    given["spec"]["metrics"].append(resource)
    options = ("--queue", "llm-chat", "--redis-url", "redis://r:6379/1", "--redis-secret", "auth")
    spec = pool_of(given, *options).spec
    assert (spec.mode, spec.scaling.min_replicas, spec.scaling.max_replicas) == ("Observe", 2, 20)
    assert (spec.redis.url, spec.redis.credentials_secret.name) == ("redis://r:6379/1", "auth")  # type: ignore[union-attr]
    assert [metric.queue_depth.average_value for metric in spec.scaling.metrics if metric.queue_depth] == [4]
    told = comments(given, *options)
    assert "spec.metrics[0]: External metric jobs: its target is taken over" in told
    assert "spec.metrics[1]: Resource metric cpu: no counterpart" in told


def test_an_hpa_s_metric_as_a_query() -> None:
    """Or for the query."""
    options = ("--queue", "q", "--redis-url", "redis://r", "--prometheus-url", "http://p:9090", "--query", "sum(x)")
    [metric] = pool_of(autoscaler(), *options).spec.scaling.metrics
    assert metric.prometheus is not None
    assert (metric.prometheus.query, metric.prometheus.average_value) == ("sum(x)", 4)


def test_an_hpa_without_anything_that_can_be_kept() -> None:
    """It begins with the default metric, and says so; one that KEDA made points to the ScaledObject."""
    given = autoscaler(metrics=[{"type": "Pods", "pods": {"metric": {"name": "busy"}}}])
    given["metadata"]["labels"] = {"scaledobject.keda.sh/name": "chat"}
    options = ("--queue", "q", "--redis-url", "redis://r")
    [metric] = pool_of(given, *options).spec.scaling.metrics
    assert metric.queue_depth is not None
    told = comments(given, *options)
    assert "spec.scaling.metrics: the default" in told
    assert "Pods metric busy: what is measured isn't in the file" in told
    assert "`llmpool import scaledobject` of chat" in told


TWO_REDIS = scaled(redis(), redis(address="other:6379", listName="q"))
REFUSED: dict[str, tuple[Any, str]] = {
    "no YAML": ("a: [", "document: not YAML"),
    "nothing": ("", "kind: got nothing, wanted ScaledObject of keda.sh"),
    "another kind": (yaml.safe_dump({"kind": "Pod", "apiVersion": "v1"}), "kind: got Pod, wanted ScaledObject"),
    "two of them": (yaml.safe_dump_all([scaled(), scaled()]), "2 of kind ScaledObject (chat, chat), wanted one"),
    "a list of texts": (yaml.safe_dump({"kind": "List", "items": ["x"]}), "items[0]: got 'x', wanted a mapping"),
    "no target": (scaled(scaleTargetRef={}), "spec.scaleTargetRef.name: missing"),
    "a StatefulSet": (
        scaled(scaleTargetRef={"name": "x", "kind": "StatefulSet"}),
        "spec.scaleTargetRef.kind: got StatefulSet of apps/v1, allowed is Deployment",
    ),
    "no list": (scaled(trigger("cpu", {})), "spec.triggers: names no Redis list, so the queues must be given: --queue"),
    "no list's name": (scaled(trigger("redis", {"address": "r:1"})), "spec.triggers[0].metadata.listName: missing"),
    "a list's name": (scaled(redis(listName="a b")), "spec.queues[0].name: got 'a b'"),
    "a length": (scaled(redis(listLength="five")), "spec.triggers[0].metadata.listLength: got 'five', wanted a whole"),
    "a length of zero": (scaled(redis(listLength=0)), "spec.triggers[0].metadata.listLength: got 0"),
    "no address": (scaled(trigger("redis", {"listName": "q"})), "spec.triggers[0].metadata.address: missing"),
    "an address elsewhere": (
        scaled(trigger("redis", {"listName": "q", "addressFromEnv": "REDIS"})),
        "spec.triggers[0].metadata.addressFromEnv: the value is in a variable of the workers (REDIS)",
    ),
    "two Redis": (TWO_REDIS, "spec.triggers[1].metadata: another Redis than that of spec.triggers[0]"),
    "ports without hosts": (
        scaled(trigger("redis-cluster", {"hosts": "a,b", "ports": "1", "listName": "q"})),
        "spec.triggers[0].metadata.ports: got 1, wanted as many as hosts (2)",
    ),
    "no threshold": (
        scaled(redis(), trigger("prometheus", {"serverAddress": "http://p", "query": "q"})),
        "spec.triggers[1].metadata.threshold: missing",
    ),
    "a cron with seconds": (
        scaled(redis(), trigger("cron", {"desiredReplicas": 1, "timezone": "UTC", "start": "0 0 7 * * *", "end": "x"})),
        "spec.triggers[1].metadata.start: got '0 0 7 * * *', wanted five fields",
    ),
    "triggers in a mapping": (
        {**scaled(), "spec": {"scaleTargetRef": {"name": "x"}, "triggers": {"a": 1}}},
        "spec.triggers: got a mapping, wanted a list",
    ),
    "a long name": ({**scaled(), "metadata": {"name": "x" * 41}}, "metadata.name: got"),
    "min above max": (scaled(minReplicaCount=101), "minReplicas: got 101"),
    "an older HPA": ({**autoscaler(), "apiVersion": "autoscaling/v1"}, "apiVersion: got autoscaling/v1"),
    "an HPA without options": (autoscaler(), "spec.metrics: names no Redis list, so the queues must be given: --queue"),
    "an HPA's metric": (autoscaler(metrics=[{"type": "GPU"}]), "spec.metrics[0].type: got 'GPU', allowed are Resource"),
}


@pytest.mark.parametrize(("given", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_read_is_refused_by_name(given: Any, said: str) -> None:
    """One sentence with the field, and no pool that would be half of one."""
    done = run(given)
    assert (done.exit_code, done.stdout) == (2, "")
    told = " ".join(done.stderr.replace("│", " ").split())
    assert said in told


def test_options_say_what_the_file_cannot() -> None:
    """An address for all, a name that fits, queues that nobody scales by yet."""
    options = ("--redis-url", "redis://r:6379/0", "--name", "short", "--queue", "llm-chat", "--queue", "more")
    pool = pool_of(TWO_REDIS, *options)
    assert (pool.metadata.name, pool.spec.redis.url) == ("short", "redis://r:6379/0")
    assert [queue.name for queue in pool.spec.queues] == ["llm-chat", "q", "more"]


def test_a_list_as_kubectl_prints_it(tmp_path: Path) -> None:
    """One object in a List, from a file."""
    file = tmp_path / "all.yaml"
    file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": [{"kind": "Pod"}, scaled()]}))
    done = CliRunner().invoke(app, ["import", "scaledobject", str(file)])
    assert load_pool(done.stdout).key == "lms/chat"


def test_names_cannot_break_out_of_a_comment() -> None:
    """A comment stays one whatever is in the file."""
    given = scaled(redis(), trigger("x\nspec: {}", {}))
    assert pool_of(given).spec.mode == "Observe"
    assert "x spec: {}" in comments(given)


@pytest.mark.control_plane
async def test_printed_pools_apply(control_plane: ControlPlane, namespace: str) -> None:
    """What is printed is taken by a cluster as it is."""
    api = KubeAPI(str(control_plane.kubeconfig))
    await apply_crd(api)
    given = [given for given, _ in WITHOUT_COUNTERPART.values()]
    printed = await asyncio.to_thread(lambda: [run(one).stdout for one in given])
    for number, text in enumerate(printed):
        pool = yaml.safe_load(text)
        pool["metadata"] = {"name": f"pool-{number}"}
        await api.create(pools_path(namespace), pool)
    await api.close()


def test_lists_of_several_databases_are_told() -> None:
    """A pool looks into one database: without an address the other is a fault, with one it is named in a comment."""
    given = scaled(redis(), redis(listName="llm-embed", databaseIndex="3"))
    done = run(given)
    assert done.exit_code != 0
    assert (
        "spec.triggers[1].metadata.databaseIndex: got 3, and spec.triggers[0].metadata.databaseIndex is 0"
        in done.stderr
    )
    assert "got 3" in comments(given, "--redis-url", "redis://r")
