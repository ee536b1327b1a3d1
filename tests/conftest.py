"""Fixtures that give tests the real parts, and the rule that a full run skips nothing."""

import os
import secrets
import signal
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import HealthCheck, settings
from kubernetes.aio import client, config
from kubernetes.aio.client.exceptions import ApiException

from llmpool_operator.kube import KubeAPI
from tests.support.control_plane import ControlPlane
from tests.support.lab import Lab
from tests.support.ollama_process import OllamaProcess
from tests.support.operator_process import Pools, apply_crd
from tests.support.redis_server import RedisServer
from tests.support.redis_topologies import Certificates, RedisCluster
from tests.support.waiting import eventually

NO_SKIPS_VARIABLE = "LLMPOOL_NO_SKIPS"
ACCOUNT_TIMEOUT_S = 20.0

# Two runs side by side on two cores: how fast examples come says nothing about a test.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One redis-server for the whole run. Tests take `redis_url`, which begins empty."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of a Redis without keys. Not to be stopped: `own_redis` is for that."""
    redis_server.flush()
    return redis_server.url


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis of the test's own that keeps what it acknowledged: to kill, restart and configure."""
    with RedisServer(appendonly=True) as server:
        yield server


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The program that starts an engine and a node; a test that needs either is skipped where it isn't there."""
    found = Lab.find()
    if found is None:
        pytest.skip("no lab (LLMPOOL_LAB): nothing here starts a Docker engine or a node")
    return found


@pytest.fixture(scope="module")
def whole_cluster() -> Iterator[RedisCluster]:
    with RedisCluster() as made:
        yield made


@pytest.fixture
def cluster(whole_cluster: RedisCluster) -> RedisCluster:
    """Three masters without a key."""
    whole_cluster.flush()
    return whole_cluster


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def ollama_process() -> Iterator[OllamaProcess]:
    """One scripted Ollama for the whole run. Tests take `ollama`, which begins without a script."""
    with OllamaProcess() as process:
        yield process


@pytest.fixture
def ollama(ollama_process: OllamaProcess) -> OllamaProcess:
    """A scripted Ollama with its default script and nothing seen."""
    ollama_process.reset()
    return ollama_process


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """A Kubernetes API for the whole run. Tests take `namespace` and work in there."""
    with ControlPlane() as plane:
        yield plane


@pytest.fixture
async def namespace(control_plane: ControlPlane) -> AsyncIterator[str]:
    """A new namespace in which pods can be made; its deletion is asked for at the end, not waited for."""
    name = f"llmpool-test-{secrets.token_hex(4)}"
    api_client = await config.new_client_from_config(str(control_plane.kubeconfig))  # type: ignore[no-untyped-call]
    async with api_client as api:
        core = client.CoreV1Api(api)
        await core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=name)))
        await eventually(lambda: _has_account(core, name), ACCOUNT_TIMEOUT_S, f"a service account in {name}")
        yield name
        await core.delete_namespace(name)


@pytest.fixture
async def pools(control_plane: ControlPlane, namespace: str) -> AsyncIterator[Pools]:
    """The CRD, a namespace, and a way to ask about what is in it."""
    api = KubeAPI(str(control_plane.kubeconfig))
    await apply_crd(api)
    yield Pools(api, namespace)
    await api.close()


async def _has_account(core: client.CoreV1Api, namespace: str) -> bool:
    try:
        await core.read_namespaced_service_account("default", namespace)
    except ApiException as error:
        if error.status != 404:
            raise
        return False
    return True


class SkipWatch:
    """Under LLMPOOL_NO_SKIPS=1 a skipped test fails the run: on that machine everything can run."""

    def __init__(self) -> None:
        self.skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skipped.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.skipped.append(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.skipped and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.skipped:
            terminalreporter.section(f"{NO_SKIPS_VARIABLE}=1, and skipped", red=True)
            for nodeid in self.skipped:
                terminalreporter.line(nodeid)


def _end_in_order(number: int, _frame: object) -> None:
    """SIGTERM ends a run as Ctrl-C does: fixtures stop their processes. By default Python would die at once."""
    raise KeyboardInterrupt(f"signal {number}")


def default_signals() -> None:
    """Undo what `nohup` and a shell's `&` leave ignored: children inherit it, and tests send these to them."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_configure(config: pytest.Config) -> None:
    default_signals()
    signal.signal(signal.SIGTERM, _end_in_order)
    if os.environ.get(NO_SKIPS_VARIABLE) == "1":
        config.pluginmanager.register(SkipWatch(), "skip-watch")
