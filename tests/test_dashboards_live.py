"""Every query of a dashboard and of an alert, asked of a real Prometheus that scrapes real workers and the operator."""

import math
import re
import time
from collections.abc import Iterator

import pytest

from tests.support.control_plane import ControlPlane
from tests.support.monitored_pool import Monitored, monitored_pool, watched
from tests.support.prometheus_server import ABSENT, PrometheusServer, program
from tests.support.waiting import until
from tests.test_alerts import ALERTS, RULES
from tests.test_dashboards import QUERIES

pytestmark = [
    pytest.mark.control_plane,
    pytest.mark.timeout(600),
    pytest.mark.skipif(program("prometheus") is None, reason=ABSENT),
]

# What this scene can't show, and why. Such queries are asked all the same, and must be understood.
MAY_BE_EMPTY = {
    "llm_worker_gpu_": "the machine may have no GPU",
    'code=~"0|429|5.."': "the API server fails no call here",
}
SELECTOR = re.compile(r"llm_(?:worker|operator)_\w+(?:\{[^}]*\})?")
SETTLE_S = 150.0
PACE_S = 1.0
"""Between two batches of jobs, as between two looks of Prometheus, seconds."""


def substituted(query: str) -> str:
    """With the variables as Grafana fills them in where everything is chosen."""
    text = query.replace("$__rate_interval", "2m")
    return re.sub(r'"\$\w+"', '".*"', text)


def may_be_empty(query: str) -> bool:
    return any(name in query for name in MAY_BE_EMPTY)


@pytest.fixture(scope="module")
def scene(control_plane: ControlPlane) -> Iterator[Monitored]:
    with monitored_pool(control_plane) as made:
        yield made


@pytest.fixture(scope="module")
def prometheus(scene: Monitored) -> Iterator[PrometheusServer]:
    """After all of it has happened under Prometheus' eyes."""
    with watched(scene, RULES) as server:
        until(lambda: server.query("count(llm_worker_info) == 3 and count(llm_operator_info) == 1"), 60, "all scraped")
        scene.lose_and_take_back()
        scene.stir()
        scene.interrupt_redis()
        yield server


def has_data(server: PrometheusServer, query: str) -> bool:
    return any(not math.isnan(value) for value in server.query(query))


def without_data(scene: Monitored, server: PrometheusServer, queries: dict[str, str]) -> dict[str, str]:
    """The queries that have had no number within the time; jobs come meanwhile."""
    missing, stirred_at = dict(queries), 0.0

    def all_there() -> bool:
        nonlocal stirred_at
        if time.monotonic() - stirred_at < PACE_S:
            return False
        stirred_at = time.monotonic()
        for where in [where for where, query in missing.items() if has_data(server, query)]:
            del missing[where]
        if missing:
            scene.stir()
        return not missing

    try:
        until(all_there, SETTLE_S, "data")
    except AssertionError:
        return missing
    return {}


def test_every_panel_shows_data(scene: Monitored, prometheus: PrometheusServer) -> None:
    """Each query of each panel is understood and gives a number; only what MAY_BE_EMPTY names may have none."""
    queries = {where: substituted(query) for where, query in QUERIES.items()}
    for query in queries.values():
        prometheus.query(query)  # raises where it isn't understood
    wanted = {where: query for where, query in queries.items() if not may_be_empty(query)}
    assert without_data(scene, prometheus, wanted) == {}


def test_every_variable_has_values(prometheus: PrometheusServer) -> None:
    """What dashboards choose by is on the series: a namespace, a pool, queues, workers."""
    for metric, label in (
        ("llm_worker_info", "namespace"),
        ("llm_worker_info", "pool"),
        ("llm_worker_info", "instance"),
        ("llm_worker_queue_jobs", "queue"),
        ("llm_operator_queue_jobs", "queue"),
        ("llm_operator_replicas", "pool"),
    ):
        assert prometheus.api(f"label/{label}/values", **{"match[]": metric}), (metric, label)


def test_every_alert_looks_at_series_that_exist(scene: Monitored, prometheus: PrometheusServer) -> None:
    """Each selector of each alert finds series, whatever the alert compares them with; each expression is loaded."""
    selectors = {
        f"{alert['alert']}: {selector}": f"last_over_time({selector}[5m])"
        for alert in ALERTS
        for selector in SELECTOR.findall(alert["expr"])
        if not may_be_empty(selector)
    }
    assert without_data(scene, prometheus, selectors) == {}
    rules = [rule for group in prometheus.api("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"]: rule["health"] for rule in rules} == {alert["alert"]: "ok" for alert in ALERTS}
