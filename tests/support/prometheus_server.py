"""A real Prometheus of the tests, and promtool: from PATH, or from where tools/prometheus has put Debian's package."""

import json
import shutil
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from tests.support.control_plane_programs import cache_folder
from tests.support.processes import Child, free_port

START_TIMEOUT_S = 30.0
ABSENT = "no prometheus: tools/prometheus unpacks Debian's package where apt-get is, else put one on PATH"


def program(name: str) -> Path | None:
    """`prometheus` or `promtool`; None where there is none."""
    found = shutil.which(name)
    if found:
        return Path(found)
    unpacked = cache_folder() / "prometheus" / "usr" / "bin" / name
    return unpacked if unpacked.exists() else None


@dataclass(frozen=True)
class Target:
    """What is scraped, and the labels that its series get."""

    job: str
    port: int
    labels: Mapping[str, str]

    @property
    def static(self) -> dict[str, Any]:
        """As Prometheus' configuration has it."""
        return {"targets": [f"127.0.0.1:{self.port}"], "labels": dict(self.labels)}


class QueryError(AssertionError):
    """Prometheus refused a query."""


class PrometheusServer:
    """`with PrometheusServer(targets, rules) as prometheus: prometheus.query("up")`; it scrapes each second."""

    def __init__(self, targets: Sequence[Target], rules: Path) -> None:
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="llmpool-prometheus-"))
        jobs = [
            {"job_name": job, "honor_labels": True, "static_configs": [one.static for one in targets if one.job == job]}
            for job in dict.fromkeys(target.job for target in targets)
        ]
        pace = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config = self._folder / "prometheus.yml"
        config.write_text(yaml.safe_dump({"global": pace, "rule_files": [str(rules)], "scrape_configs": jobs}))
        found = program("prometheus")
        assert found is not None, ABSENT
        command = [str(found), f"--config.file={config}", f"--storage.tsdb.path={self._folder / 'data'}"]
        command += [f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"]
        self._child = Child("prometheus", command, self._folder / "prometheus.log")
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def __enter__(self) -> Self:
        self._child.start()
        self._child.wait_until(self._ready, START_TIMEOUT_S, "readiness")
        return self

    def __exit__(self, *_error: object) -> None:
        self._child.stop()
        shutil.rmtree(self._folder)

    def query(self, text: str) -> list[float]:
        """The values of an instant query's answer; NaN among them. QueryError with Prometheus' own words."""
        found = self.api("query", query=text)
        assert found["resultType"] == "vector", text
        return [float(one["value"][1]) for one in found["result"]]

    def api(self, path: str, **asked: str) -> Any:
        """What `data` of an answer holds."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(asked)}"
        try:
            with self._opener.open(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise QueryError(f"{asked}: {error.read().decode()}") from error

    def _ready(self) -> bool:
        try:
            with self._opener.open(f"http://127.0.0.1:{self.port}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False
