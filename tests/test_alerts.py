"""Alerts: each is played as it fires and as it stays silent, has a runbook, and a runbook has an alert."""

import re
import shlex
import subprocess
from typing import Any

import click
import pytest
import typer
import yaml

from llmpool_cli.main import app
from tests.support.prometheus_server import ABSENT, program
from tests.test_documents import ROOT, table

RULES = ROOT / "charts" / "llm-worker-pool" / "rules" / "alerts.yaml"
PLAYED = ROOT / "tests" / "rules" / "alerts.test.yaml"
RUNBOOKS = ROOT / "docs" / "runbooks"
GROUPS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"]
ALERTS: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
NAMES = [alert["alert"] for alert in ALERTS]
HEADINGS = ["What it means", "What users feel", "How to look", "What to do", "When to leave it alone"]

needs_promtool = pytest.mark.skipif(program("promtool") is None, reason=ABSENT)


def promtool(*arguments: str) -> str:
    done = subprocess.run([str(program("promtool")), *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_promtool_takes_the_rules() -> None:
    """The file is one that Prometheus loads."""
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", str(RULES))


@needs_promtool
def test_alerts_fire_and_stay_silent() -> None:
    """Each expression with its thresholds and times, and what is said when it fires, word for word."""
    promtool("test", "rules", str(PLAYED))


def test_each_alert_is_played_both_ways() -> None:
    """Once so that it fires, once so that it doesn't."""
    played = [
        (one["alertname"], bool(one["exp_alerts"]))
        for case in yaml.safe_load(PLAYED.read_text())["tests"]
        for one in case["alert_rule_test"]
    ]
    assert sorted(played) == sorted((name, fires) for name in NAMES for fires in (True, False))


@pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
def test_an_alert_says_what_is_needed(alert: dict[str, Any]) -> None:
    """How bad it is, what happens in one line and with numbers, and where its runbook is."""
    said = alert["annotations"]
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    assert set(said) == {"summary", "description", "runbook_url"}
    assert "$value" in said["description"] or "absent(" in alert["expr"] or re.search(r"\d", said["description"])
    assert said["runbook_url"] == f"docs/runbooks/{alert['alert']}.md"


def test_alerts_and_runbooks_are_one_to_one() -> None:
    """Nobody is woken without a page to turn to, and no page is left over."""
    assert len(set(NAMES)) == len(NAMES)
    assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"index"} == set(NAMES)


def test_the_index_lists_each_alert() -> None:
    """With its severity, in the order of the rules."""
    rows = table((RUNBOOKS / "index.md").read_text(), "Alert")
    listed = [(row["Alert"], row["Severity"]) for row in rows]
    assert listed == [(f"[{a['alert']}]({a['alert']}.md)", a["labels"]["severity"]) for a in ALERTS]


@pytest.mark.parametrize("name", NAMES)
def test_a_runbook_is_whole(name: str) -> None:
    """The five questions, in their order, and each answered."""
    text = (RUNBOOKS / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    assert parts[1::2] == HEADINGS
    assert all(part.strip() for part in parts)


def calls(program: str) -> list[str]:
    """Each line of a shell block of a runbook that calls a program."""
    blocks = [
        block
        for path in sorted(RUNBOOKS.glob("*.md"))
        for block in re.findall(r"^```sh\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)
    ]
    lines = {line for block in blocks for line in block.splitlines()}
    return sorted(line for line in lines if line.startswith(f"{program} "))


@pytest.mark.parametrize("line", calls("llmpool"))
def test_the_commands_of_runbooks_exist(line: str) -> None:
    """Subcommands, options and arguments are those of the program, so that nobody meets a usage error at night."""
    words = shlex.split(line.partition("  #")[0])[1:]
    command: Any = typer.main.get_command(app)
    while hasattr(command, "get_command"):
        context, name = click.Context(command), words.pop(0)
        command = command.get_command(context, name)
        assert command is not None, name
    assert command.make_context("llmpool", [word.strip("[]") for word in words], resilient_parsing=False) is not None


@pytest.mark.parametrize("line", calls("kubectl"))
def test_kubectl_is_asked_for_what_there_is(line: str) -> None:
    """Verbs that only look, or are named under what to do; resources that the operator or Kubernetes has."""
    verb = line.split()[1]
    assert verb in {"get", "describe", "logs", "top", "patch", "auth", "rollout"}


def test_runbooks_have_commands() -> None:
    """The tests above look at something."""
    assert len(calls("llmpool")) > 5
    assert len(calls("kubectl")) > 3
