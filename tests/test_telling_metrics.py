"""Metrics: what is counted, what isn't known has no series, and labels don't grow with what clients send."""

import math
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from llmpool_contract.report import GPUReport
from llmpool_worker.telling.events import BreakerChange
from llmpool_worker.telling.metrics import Metrics
from llmpool_worker.telling.metrics.labels import MOST_MODELS, FirstLabels, KnownLabels
from tests.support.telling import event
from tests.test_documents import bare, section, table

ROOT = Path(__file__).resolve().parents[1]


def samples(metrics: Metrics) -> dict[str, float]:
    """Every sample as Prometheus' own parser reads it, `name{label=value,...}` -> value; not when each began."""
    found = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in (s for s in family.samples if not s.name.endswith("_created")):
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def series(metrics: Metrics, name: str) -> dict[str, float]:
    return {key: value for key, value in samples(metrics).items() if key.startswith(name)}


def test_a_job_is_counted():
    """Outcome, times and tokens by queue, and by the model that was asked."""
    metrics = Metrics()
    metrics(event(input_tokens=5, output_tokens=20, eval_s=2.0, load_s=0.5, slot_wait_s=0.1, first_token_s=0.3))
    found = samples(metrics)
    assert found["llm_worker_jobs_total{outcome=succeeded,queue=llm-chat}"] == 1
    assert found["llm_worker_job_duration_seconds_sum{queue=llm-chat}"] == 2.0
    assert found["llm_worker_job_slot_wait_seconds_sum{queue=llm-chat}"] == 0.1
    assert found["llm_worker_tokens_total{direction=output,queue=llm-chat}"] == 20
    assert found["llm_worker_model_requests_total{model=m,outcome=succeeded}"] == 1
    assert found["llm_worker_model_phase_seconds_sum{model=m,phase=load}"] == 0.5
    assert found["llm_worker_model_tokens_per_second_sum{model=m}"] == 10
    assert not series(metrics, "llm_worker_fallbacks_total")


def test_a_fallback_is_counted():
    """By the model that was asked for and the one that was used."""
    metrics = Metrics(["m"])
    metrics(event(model_used="small"))
    assert series(metrics, "llm_worker_fallbacks_total") == {"llm_worker_fallbacks_total{model=m,used=small}": 1}


def test_a_job_that_asked_no_model_has_no_model_s_series():
    """A refused job counts for its queue, with its code."""
    metrics = Metrics()
    metrics(event(outcome="failed", code="invalid", running_s=None))
    assert series(metrics, "llm_worker_job_errors_total") == {
        "llm_worker_job_errors_total{code=invalid,queue=llm-chat}": 1
    }
    assert not series(metrics, "llm_worker_model_requests")


def test_names_that_clients_invent_are_no_labels():
    """A thousand models that don't exist are one series, and the real one keeps its own."""
    metrics = Metrics()
    for n in range(1_000):
        metrics(event(outcome="failed", code="model_not_found", model=f"made-up-{n}"))
    metrics(event())
    assert series(metrics, "llm_worker_model_requests_total") == {
        "llm_worker_model_requests_total{model=other,outcome=failed}": 1_000,
        "llm_worker_model_requests_total{model=m,outcome=succeeded}": 1,
    }


def test_no_label_holds_an_id_or_a_tenant():
    """Ids, handles, tenants and reasons of jobs are nowhere in the exposition."""
    metrics = Metrics()
    metrics(event(job_id="the-id", handle="the-handle", tenant="the-tenant", reason="the-reason", outcome="failed"))
    text = metrics.text().decode()
    assert not [word for word in ("the-id", "the-handle", "the-tenant", "the-reason") if word in text]


@pytest.mark.parametrize("labels", [KnownLabels, FirstLabels])
def test_labels_are_bounded(labels):
    """Beyond the bound even known values are told together."""
    found = labels()
    for n in range(MOST_MODELS * 2):
        found.know(f"m{n}")
    assert len({found.of(f"m{n}") for n in range(MOST_MODELS * 2)}) == MOST_MODELS + 1


def test_gauges_begin_unknown():
    """A gauge that nobody has set yet tells NaN or nothing, never 0."""
    metrics = Metrics()
    found = samples(metrics)
    unset = ["process_cpu_cores", "retry_budget_ratio", "saturation_limit", "models_resident"]
    assert all(math.isnan(found[f"llm_worker_{name}"]) for name in unset)
    for name in ("queue_jobs", "gpu_", "breaker_state", "processing_rate"):
        assert not series(metrics, f"llm_worker_{name}")


def test_depth_that_is_not_known_has_no_series():
    """A reading that is gone takes its series with it."""
    metrics = Metrics()
    metrics.depth("llm-chat", {"ready": 3, "delayed": 1, "in_flight": 2, "dead": 4}, 7.5)
    assert series(metrics, "llm_worker_queue_jobs")["llm_worker_queue_jobs{queue=llm-chat,state=ready}"] == 3
    assert series(metrics, "llm_worker_queue_oldest") == {"llm_worker_queue_oldest_seconds{queue=llm-chat}": 7.5}
    metrics.depth("llm-chat", {}, None)
    metrics.depth("llm-embed", {"delayed": 0}, None)
    assert not series(metrics, "llm_worker_queue_oldest")
    assert series(metrics, "llm_worker_queue_jobs") == {"llm_worker_queue_jobs{queue=llm-embed,state=delayed}": 0}


def test_gpus():
    """Readings that a card doesn't give, and cards that are gone, have no series."""
    metrics = Metrics()
    first = GPUReport(index=0, name="A", utilization=0.25, memory_used_bytes=10, memory_total_bytes=40)
    metrics.machine.gpus([first, GPUReport(index=1, name="B", memory_used_bytes=1, memory_total_bytes=2)])
    assert series(metrics, "llm_worker_gpu_utilization") == {"llm_worker_gpu_utilization_ratio{gpu=0}": 0.25}
    assert len(series(metrics, "llm_worker_gpu_memory")) == 4
    metrics.machine.gpus([first])
    assert len(series(metrics, "llm_worker_gpu_memory")) == 2
    metrics.machine.gpus(None)
    assert not series(metrics, "llm_worker_gpu")


def test_breakers():
    """State by number, the failure ratio where there is one, each transition counted; the server's has a name."""
    metrics = Metrics(["m"])
    metrics.guards.breaker_changed(BreakerChange("m", "open", failure_ratio=0.6))
    metrics.guards.breaker_changed(BreakerChange("m", "half_open"))
    metrics.guards.breaker_changed(BreakerChange(None, "open"))
    metrics.guards.breaker_refused("m")
    assert series(metrics, "llm_worker_breaker_") == {
        "llm_worker_breaker_state{model=m}": 1,
        "llm_worker_breaker_state{model=(server)}": 2,
        "llm_worker_breaker_transitions_total{model=m,state=open}": 1,
        "llm_worker_breaker_transitions_total{model=m,state=half_open}": 1,
        "llm_worker_breaker_transitions_total{model=(server),state=open}": 1,
        "llm_worker_breaker_refusals_total{model=m}": 1,
    }


def test_jobs_that_guards_put_off_are_counted():
    """By the model whose breaker is open, folded as the breaker has it, and by the queue whose retries wait."""
    metrics = Metrics(["m:latest"])
    metrics(event(outcome="postponed", code="breaker_open", model="m", running_s=None))
    metrics(event(outcome="postponed", code="retry_budget", running_s=None))
    found = samples(metrics)
    assert found["llm_worker_breaker_refusals_total{model=m:latest}"] == 1
    assert found["llm_worker_retries_refused_total{queue=llm-chat}"] == 1


def test_models():
    """Loads, failures and what is resident; models that left have no series."""
    metrics = Metrics()
    metrics.models.loaded("m", 3.0)
    metrics.models.load_failed("nobody-knows-it")
    metrics.models.resident({"m": 100, "n": None})
    metrics.models.permits("m", 2, None)
    metrics.models.embed_call("n", 8)
    found = samples(metrics)
    assert found["llm_worker_model_loads_total{model=m,outcome=loaded}"] == 1
    assert found["llm_worker_model_loads_total{model=other,outcome=failed}"] == 1
    assert found["llm_worker_models_resident"] == 2
    assert series(metrics, "llm_worker_model_resident_bytes") == {"llm_worker_model_resident_bytes{model=m}": 100}
    assert series(metrics, "llm_worker_model_permits") == {"llm_worker_model_permits{model=m,state=in_use}": 2}
    assert found["llm_worker_embed_call_inputs_sum{model=n}"] == 8
    metrics.models.resident({"n": None})
    assert list(series(metrics, "llm_worker_model_resident{")) == ["llm_worker_model_resident{model=n}"]
    metrics.models.resident(None)
    assert math.isnan(samples(metrics)["llm_worker_models_resident"])


def test_the_others_count():
    """Cache, rules, retries, rates, what channels told."""
    metrics = Metrics()
    metrics.guards.cache("hit")
    metrics.guards.rule_matched("no-cards", "redact", "input")
    metrics.guards.retry_refused("llm-chat")
    metrics.machine.rates(1.5, None)
    metrics.machine.info("1.0", "ollama")
    metrics.told("kafka", "sent", 3)
    found = samples(metrics)
    assert found["llm_worker_cache_lookups_total{result=hit}"] == 1
    assert found["llm_worker_filter_verdicts_total{action=redact,rule=no-cards,side=input}"] == 1
    assert found["llm_worker_retries_refused_total{queue=llm-chat}"] == 1
    assert series(metrics, "llm_worker_processing_rate") == {"llm_worker_processing_rate{what=jobs}": 1.5}
    assert found["llm_worker_info{backend=ollama,version=1.0}"] == 1
    assert found["llm_worker_told_total{channel=kafka,outcome=sent}"] == 3


def test_documents_list_every_metric():
    """docs/telemetry.md has each metric of the registry with its type, labels and help, in the code's order."""
    rows = table(section("docs/telemetry.md", "Metrics"), "Metric")
    written = [(bare(r["Metric"]), r["Type"], r["Labels"].replace("`", ""), r["Meaning"]) for r in rows]
    assert written == [tuple(row) for row in rows_of(Metrics())]


def rows_of(metrics: Metrics) -> list[list[str]]:
    """name, type, labels, meaning of each metric, as the document has them."""
    found = []
    for collector in dict.fromkeys(metrics.registry._names_to_collectors.values()):
        (family,) = collector.describe()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert re.fullmatch(r"llm_worker_[a-z_]+", name)
        found.append([name, family.type, ", ".join(collector._labelnames), family.documentation.removesuffix(".")])
    return found
