"""The LLMWorkerPool document: what is read, what is refused and how that is said, and that the CRD says the same."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmpool_contract import env
from llmpool_contract.pool import OWNED_ENV, POOL_MAX_BYTES, LLMWorkerPool, PoolError, load_pool, parse_pool

ROOT = Path(__file__).resolve().parents[1]


def document(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "llmpool.dev/v1alpha1",
        "kind": "LLMWorkerPool",
        "metadata": {"name": "chat", "namespace": "lms"},
        "spec": {"queues": [{"name": "llm-chat"}], "redis": {"service": {"name": "redis-master"}}, **spec},
    }


def scaling(**fields: Any) -> dict[str, Any]:
    return {"scaling": fields}


def policies(*given: Any) -> dict[str, Any]:
    return scaling(behavior={"scaleUp": {"policies": list(given)}})


def faults(given: Any) -> tuple[str, ...]:
    with pytest.raises(PoolError) as caught:
        parse_pool(given)
    return caught.value.faults


def test_the_example_is_a_pool_with_the_defaults() -> None:
    """What examples/pool.yaml writes out as defaults are the defaults, so that its comments stay true."""
    example = load_pool((ROOT / "examples/pool.yaml").read_text())
    bare = parse_pool(document(queues=[queue.model_dump(by_alias=True) for queue in example.spec.queues]))
    assert example.spec == bare.spec


def test_the_defaults() -> None:
    """A pool needs queues and a Redis; the rest has the values that the documents promise."""
    spec = parse_pool(document()).spec
    assert (spec.replicas, spec.paused, spec.queues[0].weight) == (None, "None", 1)
    assert (spec.worker.concurrency, spec.worker.batch_size) == (5, 10)
    assert (spec.worker.timeout_seconds, spec.worker.drain_seconds, spec.worker.backend) == (300, 600, "ollama")
    assert (spec.scaling.min_replicas, spec.scaling.max_replicas, spec.scaling.idle_seconds) == (0, 10, 300)
    assert [metric.queue_depth.average_value for metric in spec.scaling.metrics] == [5]
    assert spec.scaling.behavior is None


def test_an_object_of_the_api_server_is_read() -> None:
    """Its metadata and status have much that we don't read."""
    given = document(replicas=3) | {"status": {"replicas": 2, "conditions": []}}
    given["metadata"] |= {"uid": "u", "generation": 4, "creationTimestamp": None, "managedFields": [{}]}
    pool = parse_pool(given)
    assert (pool.key, pool.metadata.uid, pool.metadata.generation) == ("lms/chat", "u", 4)
    assert pool.status == {"replicas": 2, "conditions": []}


@pytest.mark.parametrize(
    ("given", "value"),
    [
        pytest.param(0.05, "0.05", id="float"),
        pytest.param(1, "1", id="int"),
        pytest.param("50m", "0.05", id="milli"),
        pytest.param("0.05", "0.05", id="string"),
        pytest.param("2k", "2000", id="kilo"),
    ],
)
def test_quantities_are_exact(given: Any, value: str) -> None:
    """A tolerance means what it means to an HPA, in both ways that the API server may write it."""
    pool = parse_pool(document(**scaling(metrics=[{"type": "QueueDepth", "queueDepth": {"averageValue": given}}])))
    assert pool.spec.scaling.metrics[0].queue_depth.average_value == Decimal(value)


# What is wrong with a spec, the field that is named, and a part of what is said about it.
BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "no-queues": (document(queues=[]), "spec.queues", "at least 1"),
    "too-many-queues": (document(queues=[{"name": f"q{n}"} for n in range(33)]), "spec.queues", "at most 32"),
    "queue-twice": (document(queues=[{"name": "q"}, {"name": "q"}]), "spec", "more than once"),
    "queue-name": (document(queues=[{"name": "a b"}]), "spec.queues[0].name", "got 'a b'"),
    "queue-name-long": (document(queues=[{"name": "q" * 129}]), "spec.queues[0].name", "at most 128"),
    "queue-without-name": (document(queues=[{"weight": 1}]), "spec.queues[0].name", "missing"),
    "weight-zero": (document(queues=[{"name": "q", "weight": 0}]), "spec.queues[0].weight", "greater than 0"),
    "weight-infinite": (document(queues=[{"name": "q", "weight": float("inf")}]), "spec.queues[0].weight", "finite"),
    "weight-text": (document(queues=[{"name": "q", "weight": "heavy"}]), "spec.queues[0].weight", "heavy"),
    "field-of-a-later-version": (document(models={"preload": []}), "spec.models", "allowed here are replicas, queues"),
    "field-misspelt": (document(**scaling(minReplica=1)), "spec.scaling.minReplica", "minReplicas, maxReplicas"),
    "field-in-snake-case": (document(**scaling(min_replicas=1)), "spec.scaling.min_replicas", "unknown field"),
    "replicas-null": (document(replicas=None), "spec", "replicas: null is no value"),
    "replicas-negative": (document(replicas=-1), "spec.replicas", "got -1"),
    "replicas-absurd": (document(replicas=10**6), "spec.replicas", "10000"),
    "replicas-true": (document(replicas=True), "spec.replicas", "got True"),
    "no-redis": ({**document(), "spec": {"queues": [{"name": "q"}]}}, "spec.redis", "missing"),
    "redis-neither": (document(redis={}), "spec.redis", "neither of url and service"),
    "redis-both": (document(redis={"url": "redis://r", "service": {"name": "r"}}), "spec.redis", "both of url"),
    "redis-scheme": (document(redis={"url": "http://r"}), "spec.redis.url", "rediss?://"),
    "redis-sentinel": (document(redis={"sentinel": {}}), "spec.redis.sentinel", "url, service, credentialsSecret"),
    "redis-namespace": (document(redis={"service": {"name": "r.other"}}), "spec.redis.service.name", "got 'r.other'"),
    "redis-port": (document(redis={"service": {"name": "r", "port": 0}}), "spec.redis.service.port", "got 0"),
    "secret-name": (
        document(redis={"url": "redis://r", "credentialsSecret": {"name": "A"}}),
        "spec.redis.credentialsSecret.name",
        "got 'A'",
    ),
    "ollama-both": (document(ollama={"url": "http://o", "service": {"name": "o"}}), "spec.ollama", "both"),
    "ollama-sidecar": (document(ollama={"sidecar": {}}), "spec.ollama.sidecar", "allowed here are url, service"),
    "drain-short": (document(worker={"drainSeconds": 10}), "spec.worker", "drainSeconds: got 10"),
    "concurrency-zero": (document(worker={"concurrency": 0}), "spec.worker.concurrency", "greater than or equal to 1"),
    "concurrency-float": (document(worker={"concurrency": 5.5}), "spec.worker.concurrency", "got 5.5"),
    "backend": (document(worker={"backend": "vllm"}), "spec.worker.backend", "'ollama', 'openai' or 'echo'"),
    "env-owned": (document(worker={"env": [{"name": "REDIS_URL", "value": "x"}]}), "spec.worker", "REDIS_URL"),
    "env-twice": (document(worker={"env": [{"name": "A", "value": "x"}] * 2}), "spec.worker", "more than once"),
    "env-name": (document(worker={"env": [{"name": "A-B", "value": "x"}]}), "spec.worker.env[0].name", "got 'A-B'"),
    "pod-template": (document(worker={"podTemplate": {}}), "spec.worker.podTemplate", "unknown field"),
    "resources": (document(worker={"resources": {"limits": {"cpu": "lots"}}}), "spec.worker.resources.limits", "lots"),
    "min-above-max": (document(**scaling(minReplicas=11)), "spec.scaling", "minReplicas: got 11"),
    "max-zero": (document(**scaling(maxReplicas=0)), "spec.scaling.maxReplicas", "got 0"),
    "metric-unknown": (document(**scaling(metrics=[{"type": "GPU"}])), "spec.scaling.metrics[0].type", "QueueDepth"),
    "metrics-none": (document(**scaling(metrics=[])), "spec.scaling.metrics", "at least 1"),
    "average-value-zero": (
        document(**scaling(metrics=[{"type": "QueueDepth", "queueDepth": {"averageValue": 0}}])),
        "spec.scaling.metrics[0].queueDepth.averageValue",
        "greater than 0",
    ),
    "window": (
        document(**scaling(behavior={"scaleDown": {"stabilizationWindowSeconds": 3601}})),
        "spec.scaling.behavior.scaleDown.stabilizationWindowSeconds",
        "got 3601",
    ),
    "tolerance-percent": (
        document(**scaling(behavior={"scaleUp": {"tolerance": "5%"}})),
        "spec.scaling.behavior.scaleUp.tolerance",
        "'5%'",
    ),
    "tolerance-negative": (
        document(**scaling(behavior={"scaleUp": {"tolerance": -0.1}})),
        "spec.scaling.behavior.scaleUp.tolerance",
        "got -0.1",
    ),
    "select-policy": (
        document(**scaling(behavior={"scaleUp": {"selectPolicy": "Most"}})),
        "spec.scaling.behavior.scaleUp.selectPolicy",
        "'Max', 'Min' or 'Disabled'",
    ),
    "policies-none": (document(**policies()), "spec.scaling.behavior.scaleUp.policies", "at least 1"),
    "policy-value": (
        document(**policies({"type": "Pods", "value": 0, "periodSeconds": 1})),
        "spec.scaling.behavior.scaleUp.policies[0].value",
        "got 0",
    ),
    "policy-period": (
        document(**policies({"type": "Pods", "value": 1, "periodSeconds": 1801})),
        "spec.scaling.behavior.scaleUp.policies[0].periodSeconds",
        "got 1801",
    ),
    "policy-type": (
        document(**policies({"type": "Nodes", "value": 1, "periodSeconds": 1})),
        "spec.scaling.behavior.scaleUp.policies[0].type",
        "'Pods' or 'Percent'",
    ),
    "paused": (document(paused="Yes"), "spec.paused", "'None', 'All', 'ScaleIn' or 'ScaleOut'"),
    "schedules": (document(**scaling(schedules=[])), "spec.scaling.schedules", "unknown field"),
    "name-with-dot": ({**document(), "metadata": {"name": "a.b"}}, "metadata.name", "got 'a.b'"),
    "name-long": ({**document(), "metadata": {"name": "a" * 41}}, "metadata.name", "at most 40"),
    "kind": ({**document(), "kind": "Deployment"}, "kind", "'LLMWorkerPool'"),
    "version": ({**document(), "apiVersion": "llmpool.dev/v1"}, "apiVersion", "v1alpha1"),
    "no-spec": ({k: v for k, v in document().items() if k != "spec"}, "spec", "missing"),
}


@pytest.mark.parametrize(("given", "field", "said"), BAD.values(), ids=BAD.keys())
def test_what_is_wrong_is_refused_by_name(given: dict[str, Any], field: str, said: str) -> None:
    """One fault, one sentence: the field's path, what was given, what is allowed."""
    found = faults(given)
    assert len(found) == 1
    path, _, sentence = found[0].partition(": ")
    assert path.startswith(field)
    assert said in sentence


def test_all_faults_are_told_at_once() -> None:
    """Nobody has to apply ten times to find ten mistakes; but a flood is cut."""
    found = faults(document(paused="x", replicas=-1, queues=[{"name": " "}]))
    assert [fault.partition(":")[0] for fault in found] == ["spec.replicas", "spec.queues[0].name", "spec.paused"]
    flood = faults(document(queues=[{"name": " "}] * 32))
    assert len(flood) == 21
    assert flood[-1] == "and 12 more"


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(document(redis={"url": "redis://user:hunter2@r:6379/0"}), id="redis-password"),
        pytest.param(document(redis={"url": "redis://r/0?password=hunter2"}), id="redis-password-as-an-option"),
        pytest.param(document(ollama={"url": "http://user:hunter2@o"}), id="ollama-password"),
        pytest.param(document(worker={"env": [{"name": "A", "value": "hunter2" * 1000}]}), id="env-value"),
    ],
)
def test_secrets_are_not_repeated(given: dict[str, Any]) -> None:
    """An error about a place where a password may be doesn't say what was given."""
    assert "hunter2" not in " ".join(faults(given))


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        pytest.param("redis://h", True, id="bare"),
        pytest.param("redis://h:6379/1", True, id="port and database"),
        pytest.param("rediss://h/0?ssl_cert_reqs=none&ssl_ca_certs=/etc/ca.pem", True, id="tls options"),
        pytest.param("redis://h/0?password=hunter2", False, id="password"),
        pytest.param("rediss://h/0?ssl_cert_reqs=none&password=hunter2", False, id="password behind another"),
        pytest.param("redis://h/0?username=u", False, id="username"),
        pytest.param("redis://u:hunter2@h/0", False, id="in front of the host"),
        pytest.param("redis://h/0?credential_provider=x", False, id="any other"),
        pytest.param("rediss://h/0?" + "ssl_a=" * 80 + "@", False, id="slow for a careless pattern"),
    ],
)
def test_a_redis_url_carries_no_credentials(url: str, allowed: bool) -> None:
    """Neither before the host nor as an option: the CRD and the parser let the same addresses pass."""
    pattern = CRD_SPEC["properties"]["redis"]["properties"]["url"]["pattern"]
    assert bool(re.search(pattern, url)) == allowed
    try:
        parse_pool(document(redis={"url": url}))
    except PoolError:
        assert not allowed
    else:
        assert allowed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("a: [", "not YAML", id="not-yaml"),
        pytest.param("", "wanted a mapping", id="empty"),
        pytest.param("[]", "wanted a mapping", id="a-list"),
        pytest.param("a: 1\n---\nb: 2", "not YAML", id="two-documents"),
        pytest.param("spec: {a: 1, a: 2}", "key 'a' is there twice", id="key-twice"),
        pytest.param("!!python/object:os.system {}", "not YAML", id="a-tag"),
        pytest.param("[" * 50_000, "not YAML", id="deep"),
        pytest.param("#" * (POOL_MAX_BYTES + 1), "allowed are", id="large"),
    ],
)
def test_a_text_that_is_no_pool(text: str, said: str) -> None:
    """Whatever is in the file, it ends as a PoolError."""
    with pytest.raises(PoolError, match=said):
        load_pool(text)


def test_the_environment_of_the_workers() -> None:
    """All that the pool says, under the contract's names and in its units; env may lower what has no field."""
    variables = [{"name": "WORKER_LEASE", "value": "5000"}, {"name": "OLLAMA_TIMEOUT", "value": "1000"}]
    queues = [{"name": "llm-chat"}, {"name": "llm-embed", "weight": 0.2}]
    worker = {"concurrency": 3, "timeoutSeconds": 60, "drainSeconds": 90, "backend": "openai", "env": variables}
    assert parse_pool(document(queues=queues, worker=worker)).worker_env() == {
        env.WORKER_POOL: "lms/chat",
        env.WORKER_QUEUES: "llm-chat,llm-embed",
        env.WORKER_CONCURRENCY: "3",
        env.WORKER_BATCH_SIZE: "10",
        env.WORKER_TIMEOUT: "60000",
        env.WORKER_DRAIN: "90000",
        env.WORKER_LEASE: "5000",
        env.OLLAMA_TIMEOUT: "1000",
        env.OLLAMA_BASE_URL: "http://ollama.lms.svc:11434",
        env.BACKEND: "openai",
    }


def test_addresses() -> None:
    """A Service is named in full, since the operator lives in another namespace; a url is taken as it is."""
    spec = parse_pool(document()).spec
    assert spec.redis.url_from("lms") == "redis://redis-master.lms.svc:6379/0"
    spec = parse_pool(document(redis={"url": "rediss://r:1/2"}, ollama={"url": "http://o:8000/v1"})).spec
    assert (spec.redis.url_from("lms"), spec.ollama.url_from("lms")) == ("rediss://r:1/2", "http://o:8000/v1")


# The CRD says the same.

CRD = yaml.safe_load((ROOT / "crds/llmworkerpools.yaml").read_text())
CRD_SPEC = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
BOUNDS = (
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "maxProperties",
    "pattern",
    "enum",
)


_PRESERVE = "x-kubernetes-preserve-unknown-fields"
"""On quantities: the CRD can't say "a number or a string", so it says what else they may not be."""


def from_python() -> dict[str, Any]:
    """pool.py's JSON Schema, in the CRD's form: references followed, ``null`` dropped, OpenAPI 3.0's bounds."""
    whole = LLMWorkerPool.model_json_schema(by_alias=True)

    def plain(schema: dict[str, Any]) -> dict[str, Any]:
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            schema = {**whole["$defs"][name], **{k: v for k, v in schema.items() if k != "$ref"}}
        if "anyOf" in schema:
            some = [part for part in schema["anyOf"] if part.get("type") != "null"]
            number = next((part for part in some if part.get("type") == "number"), some[0])
            schema = {**schema, **plain(number)}
        if "const" in schema:
            schema["enum"] = [schema["const"]]
        if not isinstance(schema.get("exclusiveMinimum", True), bool):
            schema |= {"minimum": schema["exclusiveMinimum"], "exclusiveMinimum": True}
        return schema

    def walk(schema: dict[str, Any]) -> dict[str, Any]:
        schema = plain(dict(schema))
        if "properties" in schema:
            schema["properties"] = {name: walk(part) for name, part in schema["properties"].items()}
        for inner in ("items", "additionalProperties"):
            if isinstance(schema.get(inner), dict):
                schema[inner] = walk(schema[inner])
        return schema

    return walk(whole["properties"]["spec"])


def differences(python: dict[str, Any], crd: dict[str, Any], path: str = "spec") -> list[str]:
    """Where two schemas part in names, required fields or bounds."""
    found = [
        f"{path}.{bound}: {python.get(bound)} in pool.py, {crd.get(bound)} in the CRD"
        for bound in BOUNDS
        if python.get(bound) != crd.get(bound) and not (bound == "maxProperties" and _PRESERVE in crd)
    ]
    mine, theirs = python.get("properties", {}), crd.get("properties", {})
    if set(mine) != set(theirs):
        found.append(f"{path}: fields differ: {sorted(set(mine) ^ set(theirs))}")
    if set(python.get("required", ())) != set(crd.get("required", ())):
        found.append(f"{path}: required: {python.get('required')} and {crd.get('required')}")
    for name in set(mine) & set(theirs):
        found += differences(mine[name], theirs[name], f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if isinstance(python.get(inner), dict):
            found += differences(python[inner], crd[inner], f"{path}[]")
    return found


def test_the_crd_has_the_same_fields_and_bounds() -> None:
    """Names, required fields, ranges, lengths, patterns and enums of the CRD are pool.py's."""
    assert differences(from_python(), CRD_SPEC) == []


def defaulted(given: Any, schema: dict[str, Any]) -> Any:
    """What the API server makes of an object: defaults filled in from the outside inwards."""
    if isinstance(given, list):
        return [defaulted(item, schema["items"]) for item in given]
    if not isinstance(given, dict) or "properties" not in schema:
        return given
    missing = {name: part["default"] for name, part in schema["properties"].items() if "default" in part}
    return {name: defaulted(value, schema["properties"][name]) for name, value in {**missing, **given}.items()}


def test_the_crd_has_the_same_defaults() -> None:
    """An object as the API server fills it in is the same pool as the bare one, as Python fills that in."""
    bare = document()
    filled = {**bare, "spec": defaulted(bare["spec"], CRD_SPEC)}
    assert parse_pool(filled).spec == parse_pool(bare).spec
    python = parse_pool(bare).model_dump(by_alias=True, exclude_none=True)["spec"]
    assert defaulted(bare["spec"], CRD_SPEC).keys() == python.keys()
    assert filled["spec"]["scaling"].keys() == python["scaling"].keys()
    assert filled["spec"]["worker"].keys() == python["worker"].keys()


def test_the_crd_refuses_the_same_variables() -> None:
    """The CEL rule on worker.env names what the pool's own fields set, no more and no less."""
    rule = CRD_SPEC["properties"]["worker"]["properties"]["env"]["items"]["x-kubernetes-validations"][0]["rule"]
    assert {word for word in rule.split("'") if word.isupper()} == OWNED_ENV


def test_the_crd_s_names_and_subresources() -> None:
    """kubectl scale, HPA and `kubectl get all` find what they need."""
    version = CRD["spec"]["versions"][0]
    assert CRD["metadata"]["name"] == "llmworkerpools.llmpool.dev"
    assert CRD["spec"]["names"]["shortNames"] == ["lwp"]
    assert CRD["spec"]["names"]["categories"] == ["all"]
    assert version["subresources"]["scale"] == {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    shown = [column["name"] for column in version["additionalPrinterColumns"] if not column.get("priority")]
    assert shown == ["Ready", "Replicas", "Desired", "Busy", "Queued", "Age"]
