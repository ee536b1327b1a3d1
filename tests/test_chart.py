"""The chart without Helm: its values, its schema and what it carries. Rendering is in test_chart_lab.py."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from tools.manifests import CHART, DEPLOY

from llmpool_operator.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
DEPLOYED = [document for document in yaml.safe_load_all(DEPLOY.read_text()) if document]
CRD: dict[str, Any] = yaml.safe_load((ROOT / "crds" / "llmworkerpools.yaml").read_text())
OTHERS = {"podSecurityContext", "securityContext", "affinity"}
"""Kubernetes' own objects: the API server knows their fields, and a release of it may bring more."""
MAPS = {"pools", "nodeSelector", "podAnnotations", "podLabels", "labels", "annotations", "requests", "limits"}
"""Values whose keys are the user's."""


def places(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Each object of the values whose keys are ours."""
    yield path
    for key, value in values.items():
        if isinstance(value, dict) and key not in OTHERS | MAPS:
            yield from places(value, (*path, key))


def changed(path: tuple[str, ...], **values: Any) -> dict[str, Any]:
    made = copy.deepcopy(VALUES)
    at = made
    for key in path:
        at = at[key]
    at.update(values)
    return made


def complaints(values: dict[str, Any]) -> list[str]:
    return [error.message for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(values)]


def test_default_values_fit_their_schema() -> None:
    """What the chart ships is what it accepts, so every value has its place in the schema."""
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert complaints(VALUES) == []


@pytest.mark.parametrize("path", list(places(VALUES)), ids=lambda path: ".".join(path) or "top")
def test_misspelt_keys_are_refused(path: tuple[str, ...]) -> None:
    """A key that the chart doesn't know never passes for a setting: Helm stops and names it."""
    [complaint] = complaints(changed(path, enabledd=True))
    assert "enabledd" in complaint


BAD: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "no replica": ((), {"replicaCount": 0}),
    "a pull policy of its own": (("image",), {"pullPolicy": "Sometimes"}),
    "a tick above the settings' bound": (("operator",), {"tickSeconds": 11}),
    "a lease shorter than the settings' bound": (("operator",), {"leaseDurationSeconds": 2}),
    "a log level in words": (("operator",), {"logLevel": "verbose"}),
    "all Secrets": (("operator",), {"redisSecrets": ["*"]}),
    "a pool's name with a dot": ((), {"pools": {"a.b": {"queues": [], "redis": {}}}}),
    "a pool's name too long": ((), {"pools": {"a" * 41: {"queues": [], "redis": {}}}}),
    "a pool without a queue": ((), {"pools": {"chat": {"redis": {"url": "redis://r"}}}}),
    "a port as text": (("service",), {"port": "8080"}),
    "an interval without a unit": (("metrics", "podMonitor"), {"interval": "15"}),
}


@pytest.mark.parametrize(("path", "values"), BAD.values(), ids=BAD.keys())
def test_bad_values_are_refused(path: tuple[str, ...], values: dict[str, Any]) -> None:
    """What the operator or the API server would refuse is refused before anything is applied."""
    assert complaints(changed(path, **values))


HELD = {
    "tickSeconds": "operator_tick",
    "relistSeconds": "operator_relist",
    "redisReadTimeoutSeconds": "redis_read_timeout",
    "leaseDurationSeconds": "leader_lease_duration",
    "logLevel": "log_level",
}


@pytest.mark.parametrize(("value", "setting"), HELD.items(), ids=HELD.keys())
def test_defaults_and_bounds_are_the_settings(value: str, setting: str) -> None:
    """A value left alone means what the operator's own default means, and may be set to all that it may."""
    field = Settings.model_fields[setting]
    assert VALUES["operator"][value] == field.default
    schema = SCHEMA["properties"]["operator"]["properties"][value]
    bounds = {end: getattr(rule, end) for rule in field.metadata for end in ("ge", "le") if hasattr(rule, end)}
    assert {"ge": schema.get("minimum"), "le": schema.get("maximum")} == {
        "ge": bounds.get("ge"),
        "le": bounds.get("le"),
    }


def test_the_chart_carries_the_crd() -> None:
    """`crds/`, the chart and the plain manifest are one resource, whichever way a cluster gets it."""
    assert (CHART / "files" / "llmworkerpools.yaml").read_bytes() == (
        ROOT / "crds" / "llmworkerpools.yaml"
    ).read_bytes()
    [deployed] = [each for each in DEPLOYED if each["kind"] == "CustomResourceDefinition"]
    assert deployed["spec"] == CRD["spec"]


def rights_of(rules: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def documented() -> set[tuple[str, str, str]]:
    text = (ROOT / "docs" / "configuration.md").read_text()
    section = text.split("## Rights of the operator")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[\w./]+`|core) \| `([\w/]+)` \| ([\w, ]+) \|", section, re.MULTILINE)
    return {
        ("" if group == "core" else group.strip("`"), resource, verb)
        for group, resource, verbs in rows
        for verb in verbs.split(", ")
    }


def test_rights_are_the_documented_ones() -> None:
    """Neither more nor less than docs/configuration.md says; Secrets only where values name them."""
    roles = [each for each in DEPLOYED if each["kind"] == "Role"]
    given = rights_of([rule for role in roles for rule in role["rules"]])
    assert given == documented() - {("", "secrets", "get")}
    assert not [each for each in DEPLOYED if each["kind"].startswith("ClusterRole")]


def test_the_manifest_sets_what_the_operator_reads() -> None:
    """A variable that the operator doesn't know would be a setting that does nothing."""
    [deployment] = [each for each in DEPLOYED if each["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    names = {each["name"] for each in container["env"]}
    assert names <= {name.upper() for name in Settings.model_fields}
    Settings(**{each["name"].lower(): each["value"] for each in container["env"]})


def test_the_manifest_claims_no_release() -> None:
    """Objects of `kubectl apply` don't say that Helm owns them: a later `helm install` would take them for its own."""
    assert not re.search(r"helm\.sh/|managed-by", DEPLOY.read_text())
