"""What the compose files promise, read from them; the engine runs them in ``test_compose_engine.py``."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmpool_contract import env
from llmpool_worker.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
PRODUCTION, DEVELOPMENT, GPU = (ROOT / f"docker-compose{part}.yml" for part in ("", ".dev", ".gpu"))
INFRA, INFRA_DEVELOPMENT = ROOT / "infra" / "docker-compose.yml", ROOT / "infra" / "docker-compose.dev.yml"
OURS_ALONE = {"PYTHONPATH"}


class Loader(yaml.SafeLoader):
    """YAML with compose's own tags."""


Loader.add_constructor("!reset", lambda _loader, _node: None)


def services(path: Path) -> dict[str, Any]:
    return yaml.load(path.read_text(), Loader)["services"]


@pytest.mark.parametrize("name", services(PRODUCTION))
def test_every_service_is_hardened(name: str) -> None:
    """Read-only, without capabilities that it doesn't need, bounded in memory, processes and log."""
    service = services(PRODUCTION)[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service.get("cap_add", [])) <= {"CHOWN", "SETUID", "SETGID"}
    assert {"memory", "pids"} <= set(service["deploy"]["resources"]["limits"])
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    assert name == "ollama-pull" or service["restart"] == "unless-stopped"


def test_a_worker_can_be_scaled() -> None:
    """Nothing of the worker's service can be there only once: no name, no port of the host, no fixed WORKER_ID."""
    worker = services(PRODUCTION)["llm-worker"]
    assert not {"container_name", "ports", "hostname"} & set(worker)
    assert worker["environment"]["WORKER_ID"] == "${WORKER_ID:-}"


def test_the_workers_port_is_open_in_development_alone() -> None:
    """3008 of this machine belongs to the worker under development, and to nobody outside the machine."""
    assert services(DEVELOPMENT)["llm-worker"]["ports"] == ["127.0.0.1:${LLM_WORKER_PORT:-3008}:3008"]


@pytest.mark.parametrize("path", [PRODUCTION, DEVELOPMENT, INFRA], ids=lambda path: str(path.relative_to(ROOT)))
def test_ports_are_this_machines_alone(path: Path) -> None:
    """Whatever is published is published on 127.0.0.1: none of these services asks for a password."""
    for service in services(path).values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.parametrize("path", [PRODUCTION, DEVELOPMENT], ids=["production", "development"])
def test_the_workers_variables_exist(path: Path) -> None:
    """Each variable that the worker gets is a setting of it, so that none is a misspelling that nobody reads."""
    known = {name.upper() for name in Settings.model_fields} | {"CONFIG_DIR"} | OURS_ALONE
    assert set(services(path)["llm-worker"]["environment"]) <= known


def test_settings_of_the_brief_can_be_given() -> None:
    """What users are told to set in the environment reaches the worker; unset, the worker's own default counts."""
    given = services(PRODUCTION)["llm-worker"]["environment"]
    for name in set(env.DEFAULTS) - {env.REDIS_URL, env.OLLAMA_BASE_URL, env.WORKER_POOL, env.WORKER_LEASE}:
        if name not in {"HEALTH_HOST", "HEALTH_PORT"}:
            assert given[name] == f"${{{name}:-}}", name
    for name in (env.REDIS_URL, env.OLLAMA_BASE_URL):
        assert given[name] == f"${{{name}:-{env.DEFAULTS[name]}}}"


def test_a_stop_leaves_time_for_the_drain() -> None:
    """stop_grace_period is the drain and 30 s."""
    given = services(PRODUCTION)["llm-worker"]["stop_grace_period"]
    assert given == f"${{WORKER_STOP_GRACE:-{int(env.DEFAULTS[env.WORKER_DRAIN]) // 1_000 + 30}s}}"


def test_jobs_survive_redis() -> None:
    """Redis writes each job to disk, forgets none when its memory is full, and keeps its files in a volume."""
    redis = services(PRODUCTION)["redis-master"]
    command = " ".join(redis["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command
    assert redis["volumes"] == ["redis_data:/data"]


def test_models_are_pulled_before_a_worker_starts() -> None:
    """The worker waits for the one-shot service, which gets the worker's own preload list."""
    made = services(PRODUCTION)
    assert made["llm-worker"]["depends_on"]["ollama-pull"] == {"condition": "service_completed_successfully"}
    assert made["ollama-pull"]["environment"]["MODEL_PRELOAD_LIST"] == "${MODEL_PRELOAD_LIST:-}"


def test_models_are_read_only_for_the_worker() -> None:
    """The worker sees Ollama's volume and can't write it."""
    made = services(PRODUCTION)
    [of_worker] = [one for one in made["llm-worker"]["volumes"] if "/models" in one]
    [of_ollama] = made["ollama"]["volumes"]
    assert of_worker == f"{of_ollama}:ro"


def test_source_is_watched_in_development() -> None:
    """Both ways of a hot reload name folders that exist, and the requirements rebuild the image."""
    worker = services(DEVELOPMENT)["llm-worker"]
    assert worker["build"]["target"] == "dev"
    assert "AS dev" in (ROOT / "Dockerfile.worker").read_text()
    watched = {one["path"]: one["action"] for one in worker["develop"]["watch"]}
    assert watched["./requirements/worker.txt"] == "rebuild"
    assert all((ROOT / path).exists() for path in watched)
    assert worker["environment"]["LOG_LEVEL"] == "${LOG_LEVEL:-debug}"


@pytest.mark.parametrize(
    "path", [PRODUCTION, DEVELOPMENT, GPU, INFRA, INFRA_DEVELOPMENT], ids=lambda path: str(path.relative_to(ROOT))
)
def test_mounted_files_exist(path: Path) -> None:
    """A mounted path that isn't there would be made by the engine, as an empty folder."""
    for service in services(path).values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith(".") and source != "./logs":
                assert (path.parent / source).exists(), source


def test_infra_development_is_the_same_development() -> None:
    """infra's development file takes the services from the root's, so that there is one of each."""
    for name, service in services(INFRA_DEVELOPMENT).items():
        assert {"extends": service["extends"]} == {"extends": {"file": "../docker-compose.dev.yml", "service": name}}


def test_images_are_pinned() -> None:
    """Images of others in infra have a version; compose's defaults can be replaced by the environment."""
    for service in services(INFRA).values():
        assert re.fullmatch(r"\$\{[A-Z]+_IMAGE:-[\w./-]+:v?\d+\.\d+\.\d+\}", service["image"]), service["image"]


@pytest.mark.parametrize("name", ["worker", "operator"])
def test_an_image_is_not_roots(name: str) -> None:
    """The final stage runs as a user above 10000, by its number, and tells its health."""
    text = (ROOT / f"Dockerfile.{name}").read_text()
    users = [int(uid) for uid in re.findall(r"^USER (\d+):\d+$", text, re.MULTILINE)]
    assert users[0] > 10_000
    assert "HEALTHCHECK" in text
    assert "--require-hashes" in text
    assert "RUN --mount" not in text
    version = re.search(r'version = "([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert version is not None
    assert f'image.version="{version[1]}"' in text


def test_prometheus_names_the_pool_of_compose() -> None:
    """Workers' series get the labels that alerts and dashboards go by: the pool that such workers report to."""
    [job] = yaml.safe_load((ROOT / "infra" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    labels = {one["target_label"]: one["replacement"] for one in job["relabel_configs"]}
    assert f"{labels['namespace']}/{labels['pool']}" == env.DEFAULTS[env.WORKER_POOL]
