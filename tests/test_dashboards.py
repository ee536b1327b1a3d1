"""Dashboards as files: what Grafana takes, and what a reader needs to understand a panel."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "charts" / "llm-worker-pool" / "dashboards").glob("*.json"))
DASHBOARDS: dict[str, dict[str, Any]] = {path.stem: json.loads(path.read_text()) for path in FILES}
KINDS = {"row", "stat", "timeseries", "table", "state-timeline"}  # none that Grafana has replaced (graph, singlestat)
UNITS = {"none", "short", "s", "ops", "percentunit", "bytes"}
VARIABLE = re.compile(r"\$\{?(\w+)\}?")
BUILT_IN = {"__rate_interval"}


def panels_of(name: str) -> list[dict[str, Any]]:
    """All panels, rows left out."""
    return [panel for panel in DASHBOARDS[name]["panels"] if panel["type"] != "row"]


QUERIES = {
    f"{name}: {panel['title']} {target['refId']}": target["expr"]
    for name in DASHBOARDS
    for panel in panels_of(name)
    for target in panel["targets"]
}
each = pytest.mark.parametrize("name", list(DASHBOARDS))
each_panel = pytest.mark.parametrize(
    "panel", [pytest.param(panel, id=f"{name}-{panel['title']}") for name in DASHBOARDS for panel in panels_of(name)]
)


def test_the_dashboards_there_are() -> None:
    """Three, each with an address of its own that links can rely on."""
    assert {name: board["uid"] for name, board in DASHBOARDS.items()} == {
        name: f"llm-pool-{name}" for name in ("operator", "overview", "workers")
    }


@each
def test_a_dashboard_is_one_that_grafana_imports(name: str) -> None:
    """Its format is that of Grafana 10 or newer, it has no id of some other Grafana, and its panels have their own."""
    board = DASHBOARDS[name]
    assert board["id"] is None
    assert board["schemaVersion"] >= 38
    assert board["tags"] == ["llm-worker-pool"]
    ids = [panel["id"] for panel in board["panels"]]
    assert sorted(ids) == list(range(1, len(ids) + 1))
    titles = [panel["title"] for panel in panels_of(name)]
    assert len(set(titles)) == len(titles)


@each
def test_no_panel_lies_on_another(name: str) -> None:
    """All are within the 24 columns, and no two share a place."""
    places = [panel["gridPos"] for panel in DASHBOARDS[name]["panels"]]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 and place["h"] > 0 for place in places)
    for one, two in itertools.combinations(places, 2):
        beside = one["x"] + one["w"] <= two["x"] or two["x"] + two["w"] <= one["x"]
        apart = one["y"] + one["h"] <= two["y"] or two["y"] + two["h"] <= one["y"]
        assert beside or apart, (one, two)


@each
def test_variables_are_declared_before_they_are_used(name: str) -> None:
    """The data source can be chosen, and so can what the queries filter by; nothing chosen means everything."""
    listed = DASHBOARDS[name]["templating"]["list"]
    assert (listed[0]["name"], listed[0]["type"], listed[0]["query"]) == ("datasource", "datasource", "prometheus")
    known = {"datasource"}
    for variable in listed[1:]:
        assert variable["includeAll"]
        assert variable["allValue"] == ".*"  # series without the label are taken, too
        assert variable["datasource"]["uid"] == "${datasource}"
        assert set(VARIABLE.findall(variable["definition"])) <= known
        known.add(variable["name"])
    used = {
        word for panel in panels_of(name) for target in panel["targets"] for word in VARIABLE.findall(target["expr"])
    }
    assert used - BUILT_IN <= known
    assert known - {"datasource"} <= used


@each_panel
def test_a_panel_can_be_read(panel: dict[str, Any]) -> None:
    """Kind, unit, thresholds, a description in a whole sentence, and queries of the chosen data source."""
    assert panel["type"] in KINDS
    assert panel["description"].endswith(".")
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"] in UNITS
    assert defaults["thresholds"]["steps"][0]["value"] is None
    refs = [target["refId"] for target in panel["targets"]]
    assert refs
    assert len(set(refs)) == len(refs)
    assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])
    if panel["type"] == "stat":
        assert defaults["noValue"]  # an empty field would pass for zero


@pytest.mark.parametrize("query", list(QUERIES.values()), ids=list(QUERIES))
def test_counters_are_shown_as_rates(query: str) -> None:
    """A counter itself begins anew with each worker: only its rate, or its increase, says something."""
    for counter in re.findall(r"\w+_(?:total|bucket|sum|count)(?=[{\[])", query):
        before = query[: query.index(counter)]
        assert re.search(r"(rate|increase)\($", before), counter
