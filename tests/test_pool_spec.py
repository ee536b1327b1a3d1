"""The LLMWorkerPool document: what is read, what is refused and how that is said, and that the CRD says the same."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools import pools

from llmpool_contract import env
from llmpool_contract.pool import OWNED_ENV, POOL_MAX_BYTES, LLMWorkerPool, PoolError, load_pool, parse_pool
from llmpool_contract.pool.places import REDIS_HOSTS
from llmpool_contract.pool.scaling import CRON
from tests.support.bad_specs import BAD_SPECS, Bad, depth, document

ROOT = Path(__file__).resolve().parents[1]


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
    pool = parse_pool(depth(given))
    assert pool.spec.scaling.metrics[0].queue_depth.average_value == Decimal(value)


# What JSON or the API server's defaults can't carry as far as the table that the server is held to, too, and what its
# patterns can't tell.
HERE_ALONE: dict[str, Bad] = {
    "ollama-brackets": Bad(document(ollama={"url": "http://[::::]"}), "spec.ollama.url", "not an address"),
    "prometheus-port": Bad(document(prometheus={"url": "http://p:99999"}), "spec.prometheus.url", "not an address"),
    "prometheus-port-zero": Bad(document(prometheus={"url": "http://p:0"}), "spec.prometheus.url", "not an address"),
    "prometheus-host-of-no-name": Bad(
        document(prometheus={"url": "http://\u2100"}), "spec.prometheus.url", "not an address"
    ),
    "weight-infinite": Bad(document(queues=[{"name": "q", "weight": float("inf")}]), "spec.queues[0].weight", "finite"),
    "replicas-null": Bad(document(replicas=None), "spec", "replicas: null is no value"),
    "kind": Bad({**document(), "kind": "Deployment"}, "kind", "'LLMWorkerPool'"),
    "version": Bad({**document(), "apiVersion": "llmpool.dev/v1"}, "apiVersion", "v1alpha1"),
}
BAD = {**BAD_SPECS, **HERE_ALONE}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_what_is_wrong_is_refused_by_name(bad: Bad) -> None:
    """One fault, one sentence: the field's path, what was given, what is allowed."""
    found = faults(bad.given)
    assert len(found) == 1
    path, _, sentence = found[0].partition(": ")
    assert path.startswith(bad.field)
    assert bad.said in sentence


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
    "url",
    [
        "http://h",
        "https://h:8443/a/b/",
        "http://10.0.0.1:9090",
        "http://[fd00::1]:9090/x",
        "http://a_b",
        "http://h/[x]:y",
    ],
)
def test_addresses_of_http(url: str) -> None:
    """Hosts, ports and paths of every usual kind: the CRD and the parser let them pass."""
    for field in ("ollama", "prometheus"):
        assert re.search(CRD_SPEC["properties"][field]["properties"]["url"]["pattern"], url)
        assert parse_pool(document(**{field: {"url": url}}))


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
        env.ALLOWED_MODELS: "",
        env.MODEL_FALLBACKS: "",
        env.MODEL_MEMORY_THRESHOLD: "0.8",
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


def plain(schema: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    """One level of a JSON Schema: its reference followed, ``null`` dropped, bounds as OpenAPI 3.0 has them."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        schema = {**parts[name], **{k: v for k, v in schema.items() if k != "$ref"}}
    if "anyOf" in schema:
        some = [part for part in schema["anyOf"] if part.get("type") != "null"]
        number = next((part for part in some if part.get("type") == "number"), some[0])
        schema = {**schema, **plain(number, parts)}
    if len(schema.get("patternProperties", ())) == 1:
        [schema["additionalProperties"]] = schema["patternProperties"].values()
    if not isinstance(schema.get("exclusiveMinimum", True), bool):
        schema |= {"minimum": schema["exclusiveMinimum"], "exclusiveMinimum": True}
    return schema


def from_python() -> dict[str, Any]:
    """The models' JSON Schema, in the CRD's form."""
    whole = LLMWorkerPool.model_json_schema(by_alias=True)

    def walk(schema: dict[str, Any]) -> dict[str, Any]:
        schema = plain(dict(schema), whole["$defs"])
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
        f"{path}.{bound}: {python.get(bound)} in Python, {crd.get(bound)} in the CRD"
        for bound in BOUNDS
        if python.get(bound) != crd.get(bound) and not (bound in ("maxProperties", "maxItems") and _PRESERVE in crd)
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
    """Names, required fields, ranges, lengths, patterns and enums of the CRD are the models'."""
    assert differences(from_python(), CRD_SPEC) == []


def key_patterns(schema: dict[str, Any], path: str = "spec") -> dict[str, str]:
    """What the keys of each mapping must be like: the pattern from Python's schema, the rules from the CRD's."""
    found = {path: " ".join(schema["patternProperties"])} if "patternProperties" in schema else {}
    if "properties" not in schema and isinstance(schema.get("additionalProperties"), dict):
        rules = " ".join(rule["rule"] for rule in schema.get("x-kubernetes-validations", ()))
        found.setdefault(path, rules)
    for name, part in schema.get("properties", {}).items():
        found |= key_patterns(part, f"{path}.{name}")
    return found


def test_the_crd_asks_the_same_of_keys() -> None:
    """Schemas of Kubernetes know no patterns for keys: rules have them, those of the parser."""
    python, crd = key_patterns(from_python()), key_patterns(CRD_SPEC)
    assert python.keys() == crd.keys()
    assert [path for path, pattern in python.items() if f"matches('{pattern}')" not in crd[path]] == []


def test_the_crd_reads_cron_in_the_same_way() -> None:
    """The rule has the parser's own pattern."""
    schedule = CRD_SPEC["properties"]["scaling"]["properties"]["schedules"]["items"]
    [rule] = schedule["properties"]["cron"]["x-kubernetes-validations"]
    assert rule["rule"] == f"self.matches(r'{CRON}')"


def test_the_crd_reads_addresses_in_the_same_way() -> None:
    """One of the rules on Redis' address has the parser's own pattern."""
    rules = CRD_SPEC["properties"]["redis"]["properties"]["url"]["x-kubernetes-validations"]
    escaped = REDIS_HOSTS.replace("\\", "\\\\")
    assert f"self.matches('{escaped}')" in [rule["rule"] for rule in rules]


def bounds_missing(schema: dict[str, Any], path: str = "spec") -> list[str]:
    """Lists, mappings and texts without an upper bound."""
    kinds = {"array": "maxItems", "string": "maxLength"}
    bound = kinds.get(schema.get("type", ""))
    found = [path] if bound and bound not in schema and "enum" not in schema else []
    if isinstance(schema.get("additionalProperties"), dict):
        found += [path] * ("maxProperties" not in schema)
        found += bounds_missing(schema["additionalProperties"], f"{path}{{}}")
    found += bounds_missing(schema["items"], f"{path}[]") if "items" in schema else []
    for name, part in schema.get("properties", {}).items():
        found += bounds_missing(part, f"{path}.{name}")
    return found


def test_everything_in_the_crd_is_bounded() -> None:
    """No list, mapping or text is without a bound: the cost of rules is estimated by it, and etcd stays small."""
    assert bounds_missing(CRD_SPEC) == []


def test_every_field_explains_itself() -> None:
    """`kubectl explain`, and the documents, have a sentence for each field of the spec."""

    def silent(schema: dict[str, Any], path: str) -> list[str]:
        found = []
        for name, part in schema.get("properties", {}).items():
            found += [f"{path}.{name}"] * ("description" not in part)
            found += silent(part, f"{path}.{name}") + silent(part.get("items", {}), f"{path}.{name}[]")
        return found

    assert silent(CRD_SPEC, "spec") == []


def test_the_documents_have_every_field() -> None:
    """The table in docs/pools.md is the CRD's: `make docs` writes it."""
    document = pools.DOCUMENT.read_text(encoding="utf-8")
    assert pools.written(document) == document
    assert len(pools.rows()) > 90


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
    assert shown == ["Ready", "Replicas", "Desired", "Busy", "Queued", "GPU", "Age"]
