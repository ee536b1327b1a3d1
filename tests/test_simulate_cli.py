"""``llmpool simulate``: its table, its JSON, its picture and its errors."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from llmpool_cli.main import app
from llmpool_cli.simulate.terms import PeerTerms

ROOT = Path(__file__).resolve().parents[1]
SMALL = "arrival,input_tokens,output_tokens\n" + "".join(f"{n * 0.5},500,100\n" for n in range(200))


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A small trace in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs.csv").write_text(SMALL)
    return "jobs.csv"


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["simulate", *arguments])


def as_json(*arguments: str) -> dict[str, Any]:
    done = call(*arguments, "-o", "json", "--no-png")
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_row_for_each_policy_and_a_picture(trace: str, tmp_path: Path) -> None:
    """Without options: three rows with all figures on stdout, and a PNG where stderr says."""
    done = call(trace)
    assert done.exit_code == 0, done.stderr
    header, *rows = done.stdout.splitlines()
    for name in ("policy", "jobs", "in 60s", "wait p50", "wait p95", "wait p99", "replica-h", "ups", "cut", "twice"):
        assert name in header
    assert [row.split()[:2] for row in rows] == [["pool", "200"], ["hpa", "200"], ["keda", "200"]]
    assert "drawn: simulate.png" in done.stderr
    assert (tmp_path / "simulate.png").read_bytes().startswith(b"\x89PNG")


def test_json_has_all_that_the_numbers_depend_on(trace: str) -> None:
    """The same command gives the same document, and it holds trace, terms, scaling and each policy's figures."""
    found = as_json(trace, "--max", "7", "--seed", "5")
    assert found == as_json(trace, "--max", "7", "--seed", "5")
    assert found["trace"] == {"name": "jobs.csv", "jobs": 200, "seconds": 99.5}
    assert (found["scaling"]["maxReplicas"], found["seed"], found["worker"]["concurrency"]) == (7, 5, 5)
    pool, hpa, keda = found["policies"]
    assert [pool["policy"], hpa["policy"], keda["policy"]] == ["pool", "hpa", "keda"]
    assert pool["generations_cut"] == pool["jobs_run_twice"] == pool["jobs_unfinished"] == 0
    assert set(pool["wait_seconds"]) == {"p50", "p95", "p99"}
    assert 0 < pool["replica_hours"] < 1


def test_one_policy_in_a_window(trace: str) -> None:
    """--policy, --from and --to leave the rest out."""
    found = as_json(trace, "--policy", "keda", "--from", "10", "--to", "20")
    assert [policy["policy"] for policy in found["policies"]] == ["keda"]
    assert found["trace"]["jobs"] == 20


def test_a_pool_s_file_is_simulated_and_options_go_over_it(trace: str) -> None:
    """The example's scaling counts, and --max goes over it."""
    found = as_json(trace, "-f", str(ROOT / "examples" / "pool.yaml"), "--max", "3")
    assert (found["scaling"]["idleSeconds"], found["scaling"]["maxReplicas"]) == (300, 3)
    assert max(policy["peak_replicas"] for policy in found["policies"]) == 3


def test_the_synthetic_trace_can_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--synthetic needs no file; --write-trace leaves one that gives the same number of jobs."""
    monkeypatch.chdir(tmp_path)
    made = as_json("--synthetic", "--to", "400", "--write-trace", "made.csv", "--policy", "pool")
    again = as_json("made.csv", "--policy", "pool")
    assert made["trace"]["jobs"] == again["trace"]["jobs"] > 300


POOL = """
apiVersion: llmpool.dev/v1alpha1
kind: LLMWorkerPool
metadata: {{ name: p }}
spec:
  queues: [{{ name: q }}]
  redis: {{ url: "redis://localhost" }}
  {rest}
"""
PROMETHEUS = POOL.format(
    rest='prometheus: { url: "http://p" }\n'
    "  scaling: { metrics: [{ type: Prometheus, prometheus: { query: up, value: 1 } }] }"
)
CEILING = POOL.format(
    rest="scaling: { metrics: [{ type: QueueDepth }, { type: GPUUtilization, role: Ceiling }], maxReplicas: 4 }"
)

SCHEDULE = POOL.format(rest='scaling: { schedules: [{ cron: "0 25 * * *", minReplicas: 1 }] }')

WRONG = {
    "no trace": ([], "got neither or both of TRACE.csv and --synthetic"),
    "two traces": (["jobs.csv", "--synthetic"], "got neither or both"),
    "min above max": (["jobs.csv", "--min", "5", "--max", "2"], "minReplicas: got 5, allowed is maxReplicas (2)"),
    "max of 0": (["jobs.csv", "--max", "0"], "spec.scaling.maxReplicas"),
    "not a pool": (["jobs.csv", "-f", "jobs.csv"], "document: got str, wanted a mapping"),
    "a metric that isn't simulated": (
        ["jobs.csv", "-f", "prometheus.yaml"],
        "spec.scaling.metrics[0].type: got Prometheus, simulated are QueueDepth and DrainTime",
    ),
    "a schedule that never fires": (["jobs.csv", "-f", "schedule.yaml"], "spec.scaling.schedules[0]."),
    "all slower than one": (
        ["jobs.csv", "--decode", "10"],
        "--decode: got 10, allowed are --decode-alone (50) and more",
    ),
    "a bad row": (["bad.csv"], "bad.csv line 2, column output_tokens: got 'x'"),
    "nothing in the window": (["jobs.csv", "--from", "1000"], "no job from 1000 s to the end"),
    "a rate of zero": (["jobs.csv", "--prefill", "0"], "--prefill"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=list(WRONG))
def test_wrong_input_is_named_and_exits_2(trace: str, tmp_path: Path, arguments: list[str], message: str) -> None:
    """What can't be simulated is said in a line that names it, before anything is played or written."""
    (tmp_path / "bad.csv").write_text("arrival,input_tokens,output_tokens\n0,1,x\n")
    (tmp_path / "prometheus.yaml").write_text(PROMETHEUS)
    (tmp_path / "schedule.yaml").write_text(SCHEDULE)
    done = call(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
    assert not (tmp_path / "simulate.png").exists()


def test_a_ceiling_is_left_out_and_said_so(trace: str, tmp_path: Path) -> None:
    """What only forbids to grow can't be simulated without GPUs: the rest is, and stderr says so."""
    (tmp_path / "ceiling.yaml").write_text(CEILING)
    done = call(trace, "-f", "ceiling.yaml", "--no-png", "--policy", "pool")
    assert done.exit_code == 0, done.stderr
    assert "Ceiling" in done.stderr


@pytest.mark.parametrize(("asked", "status"), [([], 0), (["--png", "p.png"], 1)], ids=["by default", "asked for"])
def test_without_matplotlib_the_table_is_printed(
    trace: str, monkeypatch: pytest.MonkeyPatch, asked: list[str], status: int
) -> None:
    """The extra `plot` is missed only by who asked for the picture; the table is there in any case."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = call(trace, "--policy", "pool", *asked)
    assert done.exit_code == status
    assert "pool" in done.stdout
    assert "pip install 'llm-worker-pool[plot]'" in done.stderr


def test_a_picture_that_can_t_be_written_is_a_line(trace: str) -> None:
    """The path, and why, before the trace is played."""
    done = call(trace, "--policy", "pool", "--png", "no/such/folder/p.png")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "no/such/folder/p.png: can't be written: no such folder" in done.stderr


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        pytest.param("replicas: 2", "spec.replicas: the pool is held at 2 by hand", id="replicas"),
        pytest.param("paused: ScaleIn", "spec.paused: ScaleIn: the pool is held by hand", id="paused"),
        pytest.param("paused: None", "", id="neither"),
        pytest.param(
            'scaling: {schedules: [{cron: "0 8 * * *", minReplicas: 1}]}',
            "spec.scaling.schedules: the trace begins on Thursday, 1970-01-01 00:00:00 UTC",
            id="schedules",
        ),
    ],
)
def test_what_a_spec_does_to_the_comparison_is_said(trace: str, tmp_path: Path, rest: str, said: str) -> None:
    """A pool that is held by hand, and the date by which schedules are judged, each in a line; else there is none."""
    (tmp_path / "pool.yaml").write_text(POOL.format(rest=rest))
    done = call(trace, "-f", "pool.yaml", "--no-png", "--policy", "pool")
    assert done.exit_code == 0, done.stderr
    assert said in done.stderr if said else done.stderr == ""


def test_jobs_that_never_end_are_told(trace: str, tmp_path: Path) -> None:
    """A pool that is held at zero by hand answers nobody: the table says how many jobs were left, and when."""
    (tmp_path / "zero.yaml").write_text(POOL.format(rest="replicas: 0"))
    done = call(trace, "-f", "zero.yaml", "--no-png", "--policy", "pool")
    assert done.exit_code == 0, done.stderr
    assert "pool: 200 jobs had not ended after 6.0 h" in done.stdout
    assert "0.00 %" in done.stdout


def test_the_document_names_real_options_and_columns() -> None:
    """Each option in docs/simulate.md is one of the command's, and its example has the columns that are printed."""
    text = (ROOT / "docs" / "simulate.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    assert named <= set(re.findall(r"--[a-z][a-z-]+", call("--help").stdout))
    (header,) = re.findall(r"^policy .*$", text, re.MULTILINE)
    printed = call("--synthetic", "--to", "100", "--no-png").stdout.splitlines()[0]
    assert header.split() == printed.split()


def test_the_document_has_the_peers_defaults() -> None:
    """The numbers that docs/simulate.md gives for HPA and KEDA are those of the code."""
    text = " ".join((ROOT / "docs" / "simulate.md").read_text(encoding="utf-8").split())
    terms = PeerTerms()
    for said in (
        f"| Sync period | {terms.hpa_sync:g} s | `--hpa-sync` |",
        f"| {terms.hpa_lag:g} s, half of a scrape interval",
        f"polls each {terms.keda_poll:g} s (`--keda-poll`)",
        f"goes to zero {terms.keda_cooldown:g} s (`--keda-cooldown`)",
        f"Kubernetes' {terms.grace:g} s",
    ):
        assert said in text
