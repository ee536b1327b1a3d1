"""The operator's settings and its command line."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from llmpool_operator.health import STALLED_AFTER
from llmpool_operator.settings import Settings, SettingsError, load

PROGRAM = str(Path(sys.executable).with_name("llmpool-operator"))


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_defaults() -> None:
    """Without any variable: one namespace, a tick a second, port 8080, and no image that anybody made up."""
    settings = load()
    assert (settings.operator_tick, settings.health_port, settings.log_level) == (1.0, 8080, "info")
    assert settings.namespace == "default"
    assert settings.redis_read_timeout < settings.operator_tick
    assert settings.worker_image == ""


def test_no_tick_is_a_standstill(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest tick that is allowed lies well below what the health check takes for a loop that stands still."""
    monkeypatch.setenv("OPERATOR_TICK", "10")
    assert load().operator_tick * 2 < STALLED_AFTER
    monkeypatch.setenv("OPERATOR_TICK", "10.1")
    with pytest.raises(SettingsError, match="OPERATOR_TICK"):
        load()


@pytest.mark.parametrize(
    ("given", "namespace"),
    [pytest.param("lms", "lms", id="one"), pytest.param("*", None, id="all"), pytest.param("", "default", id="own")],
)
def test_namespaces(given: str, namespace: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One namespace by name, all by a star, else the one it runs in."""
    monkeypatch.setenv("WATCH_NAMESPACE", given)
    assert load().namespace == namespace


@pytest.mark.parametrize(
    ("given", "namespace"),
    [
        pytest.param({"WATCH_NAMESPACE": "lms"}, "lms", id="the one that is served"),
        pytest.param({"WATCH_NAMESPACE": "*"}, "default", id="its own, where it serves all"),
        pytest.param({"WATCH_NAMESPACE": "lms", "LEADER_NAMESPACE": "ops"}, "ops", id="as given"),
    ],
)
def test_the_lease_is_where_its_pools_are(given: dict, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators of different namespaces don't wait for each other's lease, those of the same one do."""
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert load().lease_namespace == namespace


def test_a_bad_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable, what was given and what is allowed, for all of them at once."""
    monkeypatch.setenv("OPERATOR_TICK", "soon")
    monkeypatch.setenv("HEALTH_PORT", "99999")
    with pytest.raises(SettingsError) as caught:
        load()
    assert "OPERATOR_TICK" in str(caught.value)
    assert "'soon'" in str(caught.value)
    assert "HEALTH_PORT" in str(caught.value)
    assert "65535" in str(caught.value)


def test_version() -> None:
    """`--version` answers without a cluster."""
    said = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout
    assert said.startswith("llmpool-operator ")


def test_exit_status_of_a_bad_setting() -> None:
    """A setting that can't be used ends the process with status 2 and one line, no traceback."""
    ended = subprocess.run(
        [PROGRAM], env={"LOG_LEVEL": "loud", "PATH": ""}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("LOG_LEVEL: ")
    assert "Traceback" not in ended.stderr


def test_a_taken_health_port_is_said_in_a_line(tmp_path: Path) -> None:
    """No stack trace for what happens to everybody once: the variable, the port and the reason."""
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "HEALTH_PORT": str(port)}
        done = subprocess.run([PROGRAM], env=env, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert f"can't start: HEALTH_PORT {port}: " in done.stderr
    assert "Traceback" not in done.stderr
