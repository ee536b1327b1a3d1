"""What `kubectl apply` refuses: the CRD against the real API server, by the table that the parser is held to."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.aio import client, config
from kubernetes.aio.client.exceptions import ApiException

from llmpool_contract.labels import GROUP, PLURAL, VERSION
from llmpool_contract.pool import PoolError, load_pool, parse_pool
from llmpool_operator.kube import APIError, KubeAPI, pool_path, pools_path
from tests.support.bad_specs import BAD_SPECS, Bad, document, models
from tests.support.control_plane import ControlPlane
from tests.support.operator_process import CRD, CRD_PATH, apply_crd
from tests.support.pool_samples import Sampler
from tests.support.waiting import eventually

pytestmark = pytest.mark.control_plane

ROOT = Path(__file__).resolve().parents[1]
NAMESPACE = "default"
EXAMPLES = {
    path.name: path
    for path in sorted((ROOT / "examples").glob("*.yaml"))
    if (yaml.safe_load(path.read_text()) or {}).get("kind") == "LLMWorkerPool"
}


@dataclass(frozen=True)
class Answer:
    """What the API server says to a pool. Status 201: it would have taken it."""

    status: int
    message: str
    spec: dict[str, Any]


GOOD: dict[str, dict[str, Any]] = {
    "bare": document(),
    "tags are folded": models(
        preload=["a:latest", "b", "host:5000/c"],
        allowed=["a", "b:latest", "host:5000/c:latest", "big"],
        fallbacks={"anything": ["big:latest", "a"]},
    ),
    "fallbacks of any model": models(preload=["a"], fallbacks={"big:70b": ["small:8b", "b"]}),
    "quantities": document(
        scaling={
            "metrics": [
                {"type": "QueueDepth", "queueDepth": {"averageValue": "1000k"}},
                {"type": "QueueDepth", "queueDepth": {"averageValue": "500m"}},
                {"type": "DrainTime", "drainTime": {"seconds": 0.5}},
                {"type": "Prometheus", "prometheus": {"query": "q", "value": 0.25}},
                {"type": "Prometheus", "prometheus": {"query": "q", "averageValue": "1000000000k"}},
            ],
            "behavior": {"scaleUp": {"tolerance": "50m"}, "scaleDown": {"tolerance": 0}},
        },
        prometheus={"service": {"name": "prometheus"}},
    ),
    "a ceiling beside a target": document(
        scaling={"metrics": [{"type": "QueueDepth"}, {"type": "GPUUtilization", "role": "Ceiling"}]}
    ),
    "a target on each pod's own GPUs": document(
        ollama={"sidecar": {"gpus": 2}}, scaling={"metrics": [{"type": "GPUUtilization"}]}
    ),
    "cron": document(
        scaling={
            "schedules": [
                {"cron": "*/15 7-19 1,15 jan-jun MON-FRI", "minReplicas": 1},
                {"cron": "0  22 L * 5#2", "maxReplicas": 5, "timezone": "America/Argentina/Buenos_Aires"},
            ]
        }
    ),
    "sentinels": document(redis={"url": "redis+sentinel://a:26379,b/master/1"}),
    "a cluster over TLS": document(redis={"url": "rediss+cluster://[fd00::1]:6379,b:1?ssl_cert_reqs=none"}),
    "numbers as strings of resources": document(
        worker={"resources": {"limits": {"cpu": "500m", "memory": "2Gi", "example.com/card": 1}}}
    ),
}


async def _ask(kubeconfig: str, pools: Iterable[dict[str, Any]]) -> list[Answer]:
    api_client = await config.new_client_from_config(kubeconfig)  # type: ignore[no-untyped-call]
    async with api_client as api:
        custom = client.CustomObjectsApi(api)
        return [await _dry_run(custom, pool) for pool in pools]


async def _dry_run(custom: client.CustomObjectsApi, pool: dict[str, Any]) -> Answer:
    body = {**pool, "metadata": {**pool["metadata"], "namespace": NAMESPACE}}
    try:
        made = await custom.create_namespaced_custom_object(
            GROUP, VERSION, NAMESPACE, PLURAL, body, dry_run="All", field_validation="Strict"
        )
    except ApiException as error:
        return Answer(error.status, json.loads(error.body)["message"], {})
    return Answer(201, "", made["spec"])


@pytest.fixture(scope="module")
def kubeconfig(control_plane: ControlPlane) -> str:
    """Of a cluster that knows the CRD of this checkout."""

    async def known() -> None:
        api = KubeAPI(str(control_plane.kubeconfig))
        await apply_crd(api)
        await api.close()

    asyncio.run(known())
    return str(control_plane.kubeconfig)


@pytest.fixture(scope="module")
def answers(kubeconfig: str) -> dict[str, Answer]:
    """To all of the bad ones: a login costs more than a question."""
    return dict(zip(BAD_SPECS, asyncio.run(_ask(kubeconfig, [bad.given for bad in BAD_SPECS.values()])), strict=True))


@pytest.mark.parametrize(("name", "bad"), BAD_SPECS.items(), ids=BAD_SPECS.keys())
def test_bad_specs_are_refused_by_name(answers: dict[str, Answer], name: str, bad: Bad) -> None:
    """Nothing that the parser refuses is stored, and the message names the field."""
    answer = answers[name]
    # A field that isn't there is badly written (400) already, before anything is checked.
    assert answer.status == (400 if bad.unknown else 422)
    assert (bad.told or bad.field) in answer.message


@pytest.mark.parametrize("pool", GOOD.values(), ids=GOOD.keys())
def test_good_specs_are_taken(kubeconfig: str, pool: dict[str, Any]) -> None:
    """Rules refuse no more than they should: what the parser reads, the API server takes, and the same comes back."""
    [answer] = asyncio.run(_ask(kubeconfig, [pool]))
    assert (answer.status, answer.message) == (201, "")
    assert load_pool(json.dumps({**pool, "spec": answer.spec})).spec == load_pool(json.dumps(pool)).spec


@pytest.mark.parametrize("path", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_examples_are_taken(kubeconfig: str, path: Path) -> None:
    """What a reader copies works, and is to the API server what it is to `llmpool local`."""
    pool = yaml.safe_load(path.read_text())
    [answer] = asyncio.run(_ask(kubeconfig, [pool]))
    assert (answer.status, answer.message) == (201, "")
    assert load_pool(json.dumps({**pool, "spec": answer.spec})).spec == load_pool(path.read_text()).spec


UPDATES: dict[str, tuple[dict[str, Any], str]] = {
    "min above max": ({"scaling": {"minReplicas": 11}}, "spec.scaling.minReplicas"),
    "max below min": ({"scaling": {"maxReplicas": 1}}, "spec.scaling.minReplicas"),
    "timeout above drain": ({"worker": {"timeoutSeconds": 601}}, "spec.worker.drainSeconds"),
    "preload no longer allowed": ({"models": {"allowed": ["other"]}}, "spec.models.preload"),
    "two addresses": ({"redis": {"url": "redis://r"}}, "spec.redis"),
    "target while active": ({"target": {"name": "other"}}, "spec.target"),
    "a server's address beside the sidecar": ({"ollama": {"url": "http://o"}}, "spec.ollama"),
    "a metric for a shared server only": (
        {"scaling": {"metrics": [{"type": "QueueDepth"}, {"type": "GPUUtilization", "role": "Ceiling"}]}},
        "spec.scaling.metrics",
    ),
}


async def _stored(api: KubeAPI, namespace: str, **spec: Any) -> str:
    """A pool in the cluster; gives its path."""
    pool = document(**spec)
    pool["metadata"]["namespace"] = namespace
    await api.create(pools_path(namespace), pool)
    return pool_path(namespace, pool["metadata"]["name"])


async def _refusal(api: KubeAPI, path: str, change: dict[str, Any]) -> tuple[int, str]:
    try:
        await api.merge(path, change)
    except APIError as error:
        return error.status, error.message
    return 200, ""


async def test_bad_updates_are_refused(kubeconfig: str, namespace: str) -> None:
    """A pool that is good stays so: each change that would break a rule between fields is refused, by hand as well."""
    api = KubeAPI(kubeconfig)
    spec = {"models": {"preload": ["m"], "allowed": ["m"]}, "ollama": {"sidecar": {}}, "scaling": {"minReplicas": 2}}
    path = await _stored(api, namespace, **spec)
    found = {name: await _refusal(api, path, {"spec": change}) for name, (change, _) in UPDATES.items()}
    assert {name: status for name, (status, _) in found.items()} == dict.fromkeys(UPDATES, 422)
    assert [name for name, (_, message) in found.items() if UPDATES[name][1] not in message] == []
    status, message = await _refusal(api, f"{path}/scale", {"spec": {"replicas": 10_001}})
    assert (status, "spec.replicas" in message) == (422, True)
    assert await _refusal(api, path, {"spec": {"scaling": {"minReplicas": 3}}}) == (200, "")
    await api.close()


async def test_a_pool_of_a_laxer_version_can_still_be_changed(kubeconfig: str, namespace: str) -> None:
    """What an older CRD let pass stays as it is, and doesn't stand in the way of other changes, but gets no worse."""
    api = KubeAPI(kubeconfig)
    strict = yaml.safe_load(CRD.read_text())
    laxer = yaml.safe_load(CRD.read_text())
    spec = laxer["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    spec["scaling"]["properties"]["maxReplicas"]["maximum"] = 20_000
    probe = document(scaling={"maxReplicas": 15_000})

    async def takes(wanted: bool) -> bool:
        [answer] = await _ask(kubeconfig, [probe])
        return (answer.status == 201) == wanted

    try:
        await api.apply(CRD_PATH, laxer)
        await eventually(lambda: takes(True), 20, "the laxer CRD is in force")
        path = await _stored(api, namespace, **probe["spec"])
    finally:
        await api.apply(CRD_PATH, strict)
    await eventually(lambda: takes(False), 20, "the CRD is in force again")
    assert await _refusal(api, path, {"metadata": {"labels": {"a": "b"}}}) == (200, "")
    assert await _refusal(api, path, {"spec": {"paused": "ScaleIn"}}) == (200, "")
    status, message = await _refusal(api, path, {"spec": {"scaling": {"maxReplicas": 16_000}}})
    assert (status, "spec.scaling.maxReplicas" in message) == (422, True)
    assert await _refusal(api, path, {"spec": {"scaling": {"maxReplicas": 16}}}) == (200, "")
    await api.close()


SEED = 20_261
SAMPLES = 260


def _parses(pool: dict[str, Any]) -> bool:
    try:
        parse_pool(pool)
    except PoolError:
        return False
    return True


def test_parser_and_api_server_are_of_one_mind(kubeconfig: str) -> None:
    """Of pools made by chance: what the parser takes the API server takes, and what that stores the operator reads."""
    pools = Sampler(SEED).pools(SAMPLES)
    answers = asyncio.run(_ask(kubeconfig, pools))
    taken = [(pool, answer) for pool, answer in zip(pools, answers, strict=True) if answer.status == 201]
    assert len(taken) > SAMPLES // 10, "enough good ones to tell"
    refused = [(pool, answer) for pool, answer in zip(pools, answers, strict=True) if answer.status != 201]
    assert [(pool["spec"], answer.message) for pool, answer in refused if _parses(pool)] == []
    assert [pool["spec"] for pool, answer in taken if not _parses({**pool, "spec": answer.spec})] == []


def _largest() -> dict[str, Any]:
    """As much of everything as there may be, and as long."""
    names = [f"m{n:03}{'x' * 242}:latest" for n in range(128)]
    assert len(names[0]) == 253
    labels = {f"{'p' * 253}/k{n:02}{'x' * 60}": "v" * 63 for n in range(32)}
    crons = [f"{n} 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23 * * *" for n in range(32)]
    return document(
        queues=[{"name": f"q{n:02}" + "x" * 125} for n in range(32)],
        redis={"url": "redis+sentinel://" + ",".join(f"host-{n:02}.example.com:26379" for n in range(17)) + "/master"},
        models={
            "preload": [name.removesuffix(":latest") for name in names[-32:]],
            "allowed": names,
            "fallbacks": {
                f"f{n:02}{'x' * 250}": [name.removesuffix(":latest") for name in names[-8:]] for n in range(64)
            },
        },
        worker={
            "env": [{"name": f"E{n:02}" + "X" * 125, "value": "v" * 4096} for n in range(64)],
            "resources": {"limits": {f"{'r' * 188}/k{n:02}{'x' * 60}": "1" for n in range(16)}},
            "podTemplate": {
                "labels": labels,
                "nodeSelector": labels,
                "annotations": dict.fromkeys(labels, "v" * 4096),
                "tolerations": [{"key": next(iter(labels)), "operator": "Equal", "value": "v" * 63}] * 32,
            },
        },
        prometheus={"url": "http://" + "p" * 505},
        scaling={
            "metrics": [{"type": "Prometheus", "prometheus": {"query": "q" * 4096, "value": 1}}] * 8,
            "schedules": [{"cron": cron, "minReplicas": 1, "timezone": "z" * 64} for cron in crons],
        },
    )


def test_the_largest_pool_is_taken(kubeconfig: str) -> None:
    """Rules have a budget at run time, too: none comes near to it where every list is full."""
    [answer] = asyncio.run(_ask(kubeconfig, [_largest()]))
    assert (answer.status, answer.message) == (201, "")
