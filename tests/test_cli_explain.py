"""`llmpool explain`, `pools` and `resume`: from a file, against a real API server, and where there is no access."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from llmpool_cli.lease import find_leader
from llmpool_cli.main import app
from llmpool_operator.decide.types import Missing
from llmpool_operator.kube import APIError, KubeAPI, Object, collection, pool_path, pools_path
from tests.support.control_plane import ControlPlane
from tests.support.operator_process import CRD, OperatorProcess, Pools, apply_crd, pool_document
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually
from tests.test_explain import NOW, condition, pool
from tests.test_operator_kubernetes import allowed

KINDS = "leases", "coordination.k8s.io/v1"


def llmpool(*arguments: str | Path, **env: str) -> Result:
    clean = {"KUBECONFIG": "", "COLUMNS": "200", **env}
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=clean)


async def asked(*arguments: str | Path) -> Result:
    """In a thread, since the commands have a loop of their own."""
    return await asyncio.to_thread(llmpool, *arguments)


def written(folder: Path, *documents: Any) -> Path:
    file = folder / "pool.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    return file


@pytest.mark.parametrize("listed", [False, True], ids=["one", "list"])
def test_a_file_needs_no_cluster(tmp_path: Path, listed: bool) -> None:
    """What kubectl printed is enough, alone or as a list, and has no colours in a pipe."""
    document = {"kind": "List", "items": [pool(), pool(name="other")]} if listed else pool()
    answer = llmpool("explain", "chat", "-f", written(tmp_path, document))
    assert answer.exit_code == 0
    assert answer.stdout.startswith("lms/chat has 5 workers: ")
    assert "TooManyReplicas: 5 instead of 9" in answer.stdout
    assert "\x1b" not in answer.stdout


def test_json_of_a_file(tmp_path: Path) -> None:
    """The same content for programs."""
    answer = llmpool("explain", "-f", written(tmp_path, pool()), "-o", "json")
    page = json.loads(answer.stdout)
    assert (page["name"], page["sizes"]["queued"], page["decision"]["reason"]) == ("chat", 40, "TooManyReplicas")


def test_a_model_s_error_steers_no_terminal(tmp_path: Path) -> None:
    """A status carries words of servers."""
    trouble = condition("ModelsReady", "False", "ModelFailed", "b 0/1: \x1b[31mno\u202e")
    answer = llmpool("explain", "-f", written(tmp_path, pool({"conditions": [trouble]})))
    assert "b 0/1: [31mno" in answer.stdout
    assert "\x1b" not in answer.stdout


@pytest.mark.parametrize(
    ("text", "arguments", "wanted"),
    [
        pytest.param("a: [", [], "not YAML", id="no yaml"),
        pytest.param("a: 2026-13-45", [], "not YAML", id="no date"),
        pytest.param("- 1", [], "document: got a list, wanted a mapping", id="no object"),
        pytest.param("kind: Pod", [], "no LLMWorkerPool in it", id="another kind"),
        pytest.param("kind: LLMWorkerPool", [], "no LLMWorkerPool in it", id="no name"),
        pytest.param(yaml.safe_dump(pool()), ["other"], "no LLMWorkerPool other in it", id="another name"),
        pytest.param(
            yaml.safe_dump_all([pool(), pool(name="b")]), [], "more than one LLMWorkerPool: lms/b, lms/chat", id="two"
        ),
    ],
)
def test_a_file_without_the_pool(tmp_path: Path, text: str, arguments: list[str], wanted: str) -> None:
    """Said in one line, with exit status 2."""
    (tmp_path / "pool.yaml").write_text(text)
    answer = llmpool("explain", *arguments, "-f", tmp_path / "pool.yaml")
    assert answer.exit_code == 2
    assert wanted in answer.stderr
    assert answer.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "code", "wanted"),
    [
        pytest.param(["explain"], 2, "which LLMWorkerPool?", id="no name"),
        pytest.param(["explain", "chat", "--kubeconfig", "absent"], 1, "there is no file absent", id="no kubeconfig"),
        pytest.param(["explain", "-f", "absent"], 2, "can't be read", id="no file"),
    ],
)
def test_wrong_calls(command: list[str], code: int, wanted: str) -> None:
    """One line that says what is missing."""
    answer = llmpool(*command)
    assert answer.exit_code == code
    assert wanted in answer.stderr


@contextmanager
def answering(status: int, body: str, folder: Path, asked: list[str] | None = None) -> Iterator[Path]:
    """The kubeconfig of an API server that has one answer. ``asked`` gets what it was asked."""
    asked = [] if asked is None else asked

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.command} {self.path}")
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def do_PATCH(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield kubeconfig_of(server.server_port, folder)
        server.shutdown()
        thread.join()


def kubeconfig_of(port: int, folder: Path, **context: str) -> Path:
    file = folder / "kubeconfig"
    config = {
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "c", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c", **context}}],
    }
    file.write_text(yaml.safe_dump(config))
    return file


@pytest.mark.parametrize(
    ("status", "body", "wanted"),
    [
        pytest.param(404, "404 page not found", "has no llmworkerpools.llmpool.dev: kubectl apply", id="no CRD"),
        pytest.param(404, '{"reason":"NotFound"}', "no LLMWorkerPool chat in namespace default", id="no pool"),
        pytest.param(401, '{"message":"Unauthorized"}', "doesn't know who you are: Unauthorized", id="unknown"),
        pytest.param(403, '{"message":"u cannot get x"}', "no access: u cannot get x", id="forbidden"),
        pytest.param(500, '{"reason":"InternalError"}', "the API server refused: 500 InternalError", id="failing"),
        pytest.param(200, "<html>", "the answer isn't JSON", id="no API server at all"),
    ],
)
def test_what_an_api_server_refuses_is_a_line(tmp_path: Path, status: int, body: str, wanted: str) -> None:
    """Exit status 1, and what to do or whom to ask."""
    with answering(status, body, tmp_path) as kubeconfig:
        answer = llmpool("explain", "chat", "--kubeconfig", kubeconfig)
    assert answer.exit_code == 1
    assert wanted in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_an_api_server_that_is_away(tmp_path: Path) -> None:
    """The address of a kubeconfig where nobody listens."""
    with answering(200, "", tmp_path) as kubeconfig:
        pass
    answer = llmpool("pools", "--kubeconfig", kubeconfig)
    assert answer.exit_code == 1
    assert "no answer from the API server" in answer.stderr


def test_a_size_by_hand_is_removed_in_the_command_s_own_name(tmp_path: Path) -> None:
    """managedFields tell a person's change from the operator's."""
    asked: list[str] = []
    with answering(200, json.dumps(pool(spec={"replicas": 2}, uid="u")), tmp_path, asked) as kubeconfig:
        answer = llmpool("resume", "chat", "-n", "lms", "--kubeconfig", kubeconfig)
    assert answer.exit_code == 0, answer.output
    assert [line.partition("?")[2] for line in asked if line.startswith("PATCH")] == ["fieldManager=llmpool"]


class Leases(KubeAPI):
    """An API server with the Leases of some namespaces, by how long ago each was renewed, seconds."""

    def __init__(self, ages: dict[str, float], *, refuses: str = "") -> None:
        super().__init__()
        self._refuses = refuses
        self._leases = {namespace: _lease(namespace, age) for namespace, age in ages.items()}

    async def get(self, path: str) -> Object:
        if path == f"{collection(None, *KINDS)}?fieldSelector=metadata.name%3Dmine":
            if self._refuses:
                raise APIError(403, "Forbidden", self._refuses)
            return {"items": list(self._leases.values())}
        namespace = path.split("/")[-3]
        if namespace not in self._leases:
            raise APIError(404, "NotFound", path)
        return self._leases[namespace]


def _lease(holder: str, age: float) -> Object:
    renewed = datetime.fromtimestamp(NOW - age, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {"spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": renewed}}


@pytest.mark.parametrize(
    ("api", "wanted"),
    [
        pytest.param(Leases({"lms": 2, "other": 1}), "lms", id="the own one lives"),
        pytest.param(Leases({"lms": 9_000, "other": 2}), "other", id="one elsewhere lives"),
        pytest.param(Leases({"lms": 9_000, "other": 8_000}), "lms", id="both are dead"),
        pytest.param(Leases({"lms": 9_000}, refuses="no"), "lms", id="dead, no right to look elsewhere"),
        pytest.param(Leases({"lms": 9_000, "a": 1, "b": 2}), "2 namespaces have", id="two elsewhere live"),
        pytest.param(Leases({"a": 1, "b": 9_000}), "a", id="the one of two that lives"),
        pytest.param(Leases({"a": 9_000}), "a", id="the only one is dead"),
        pytest.param(Leases({}), "there is no Lease mine", id="none"),
        pytest.param(Leases({}, refuses="no"), "no right to look", id="no right"),
    ],
)
async def test_the_lease_that_counts_is_one_that_is_renewed(api: Leases, wanted: str) -> None:
    """One that an earlier operator left in the pool's namespace says nothing about the one that works now."""
    found = await find_leader(api, "lms", "mine", NOW)
    assert (found.reason if isinstance(found, Missing) else found.holder or "").startswith(wanted)


@pytest.fixture
async def pools(control_plane: ControlPlane, namespace: str) -> AsyncIterator[Pools]:
    """The CRD, a namespace, and a way to ask about what is in it."""
    api = KubeAPI(str(control_plane.kubeconfig))
    await apply_crd(api)
    yield Pools(api, namespace)
    await api.close()


def in_namespace(plane: ControlPlane, namespace: str, folder: Path) -> Path:
    """A kubeconfig whose current context is the namespace, as `kubectl config set-context` leaves it."""
    config = yaml.safe_load(plane.kubeconfig.read_text())
    for context in config["contexts"]:
        context["context"]["namespace"] = namespace
    (folder / "own.kubeconfig").write_text(yaml.safe_dump(config))
    return folder / "own.kubeconfig"


@pytest.mark.control_plane
async def test_a_pool_from_its_birth_to_a_size_by_hand_and_back(
    pools: Pools, control_plane: ControlPlane, redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    """Nobody has looked yet; the metrics' size with its reason; a size by hand; resumed."""
    kubeconfig = in_namespace(control_plane, pools.namespace, tmp_path)
    explain = ("explain", "chat", "--kubeconfig", kubeconfig)
    document = pool_document(pools.namespace, "chat", redis_url, scaling={"maxReplicas": 3})
    await pools.api.create(pools_path(pools.namespace), document)
    assert "no operator has looked at this pool" in (await asked(*explain)).stdout
    with redis_server.client() as client:
        client.rpush("llm-chat", *["{}"] * 40)
    with OperatorProcess(control_plane.kubeconfig, pools.namespace, tmp_path / "operator.log"):
        await pools.reaches("chat", "ScalingLimited", ("True", "TooManyReplicas"), 30)
        text = (await asked(*explain)).stdout
        assert "8  what the metrics ask for" in text
        assert "TooManyReplicas: 3 instead of 8" in text
        assert "NoWorkerReady: 0 of 3 workers are ready" in text
        page = json.loads((await asked(*explain, "-o", "json")).stdout)
        assert [(m["type"], m["value"], m["replicas"]) for m in page["metrics"]] == [("QueueDepth", 40, 8)]
        row = (await asked("pools", "--kubeconfig", kubeconfig)).stdout.splitlines()[1].split()
        assert row[:8] == [pools.namespace, "chat", "False", "NoWorkerReady", "0", "3", "0", "40"]

        await pools.api.merge(f"{pool_path(pools.namespace, 'chat')}/scale", {"spec": {"replicas": 2}})
        await pools.reaches("chat", "ScalingActive", ("False", "ManualReplicas"), 20)
        assert "spec.replicas is 2: a size by hand" in (await asked(*explain)).stdout
        resume = ("resume", "chat", "--kubeconfig", kubeconfig)
        assert "the size by hand (2) is gone" in (await asked(*resume)).stdout
        await pools.sized("chat", 3, 20)
        assert "autoscaling is on" in (await asked(*resume)).stdout


@pytest.mark.control_plane
async def test_a_dead_operator_is_said(
    pools: Pools, control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """By the Lease: a page that nobody keeps up must not look alive."""
    await pools.api.create(pools_path(pools.namespace), pool_document(pools.namespace, "chat", redis_url))
    status = {"status": {"replicas": 1, "observedGeneration": 1}}
    await pools.api.merge(f"{pool_path(pools.namespace, 'chat')}/status", status)
    explain = ("explain", "chat", "-n", pools.namespace, "--kubeconfig", control_plane.kubeconfig, "--lease", "mine")
    assert "there is no Lease mine" in (await asked(*explain)).stdout
    for age, duration, wanted in (
        (0, 15, "as operator op-1 sees it now"),
        (5, 1, "STALE: operator op-1 has not renewed"),
        (300, 15, "by another operator than the Lease tells of"),
    ):
        renewed = (datetime.now(UTC) - timedelta(seconds=age)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": "op-1", "leaseDurationSeconds": duration, "renewTime": renewed}
        lease = {"apiVersion": KINDS[1], "kind": "Lease", "metadata": {"name": "mine"}, "spec": spec}
        await pools.api.apply(f"{collection(pools.namespace, *KINDS)}/mine", lease)
        assert wanted in (await asked(*explain)).stdout


@pytest.mark.control_plane
async def test_few_rights_are_enough_to_explain(
    pools: Pools, control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """Reading the pool is; without the Lease it says what can't be told; without the pool's right it ends."""
    await pools.api.create(pools_path(pools.namespace), pool_document(pools.namespace, "chat", redis_url))
    await pools.api.merge(f"{pool_path(pools.namespace, 'chat')}/status", {"status": {"replicas": 1}})
    rules = [{"apiGroups": ["llmpool.dev"], "resources": ["llmworkerpools"], "verbs": ["get"]}]
    kubeconfig = await allowed(pools, control_plane, rules, tmp_path)
    explain = ("explain", "chat", "-n", pools.namespace, "--kubeconfig", kubeconfig)

    async def read() -> bool:
        answer = await asked(*explain)
        return answer.exit_code == 0 and "no right to look for the operator's Lease" in answer.stdout

    await eventually(read, 10, "the role counts")
    refused = await asked("resume", "chat", "-n", "default", "--kubeconfig", kubeconfig)
    assert refused.exit_code == 1
    assert "no access: " in refused.stderr


def test_columns() -> None:
    """`kubectl get lwp` has what the design says, in its order; the reason in the wide output alone."""
    crd = yaml.safe_load(CRD.read_text())
    columns = crd["spec"]["versions"][0]["additionalPrinterColumns"]
    assert [(c["name"], c.get("priority", 0)) for c in columns] == [
        ("Ready", 0),
        ("Replicas", 0),
        ("Desired", 0),
        ("Busy", 0),
        ("Queued", 0),
        ("GPU", 0),
        ("Reason", 1),
        ("Age", 0),
    ]


def test_a_file_that_was_never_in_a_cluster_is_not_blamed_on_an_operator(tmp_path: Path) -> None:
    """Without a status and a uid there is nobody to look for."""
    answer = llmpool("explain", "-f", written(tmp_path, pool({})))
    assert answer.exit_code == 0
    assert "has never been in a cluster" in answer.stdout
    assert "see that one runs" not in answer.stdout


def test_a_file_with_an_invalid_spec_fails(tmp_path: Path) -> None:
    """The page names the field, and scripts see the exit status."""
    answer = llmpool("explain", "-f", written(tmp_path, pool(spec={"replicas": -1})))
    assert answer.exit_code == 1
    assert "InvalidSpec" in answer.stdout
    assert "replicas" in answer.stdout


def test_stdin_is_a_file_too() -> None:
    """`kubectl get lwp chat -o yaml | llmpool explain -f -`; what isn't a pool is said of stdin."""
    text = (CRD.parents[1] / "examples" / "pool.yaml").read_text()
    done = CliRunner().invoke(app, ["explain", "-f", "-"], input=text)
    assert done.exit_code == 0, done.output
    assert "chat" in done.stdout
    wrong = CliRunner().invoke(app, ["explain", "-f", "-"], input="[]")
    assert (wrong.exit_code, "stdin: " in wrong.stderr) == (2, True)
