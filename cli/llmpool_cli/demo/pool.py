"""The demo's pool: an ordinary LLMWorkerPool, quick in all its times so that the whole of it can be watched."""

from __future__ import annotations

from collections.abc import Mapping

from llmpool_contract.pool import LLMWorkerPool, parse_pool

from .model_provider import Backend

MOST_WORKERS = 4
JOBS_PER_WORKER = 4
CONCURRENCY = 2
IDLE_SECONDS = 3
STEP_WORKERS, STEP_SECONDS = 2, 2
JOB_SECONDS = 300
STALL_SECONDS = 120
"""A model that is large for its machine, and answers eight at once, may be this slow and still be at work."""
ECHO_TOKEN_DELAY_MS = 120
"""What makes echo a stand-in for a model: without it a burst is answered before a second worker is up."""

TERMS = f"""\
one worker for each {JOBS_PER_WORKER} jobs, at most {MOST_WORKERS}, {CONCURRENCY} jobs at a time in each;
       up by {STEP_WORKERS} in {STEP_SECONDS} s, down at once, to zero after {IDLE_SECONDS} s without work
       (quick, so that there is something to see: a pool's defaults are calmer)"""


def demo_pool(name: str, queue: str, backend: Backend) -> LLMWorkerPool:
    """The document that ``llmpool local`` would read from a file; the addresses are given to it apart."""
    return parse_pool(
        {
            "apiVersion": "llmpool.dev/v1alpha1",
            "kind": "LLMWorkerPool",
            "metadata": {"name": name, "namespace": "local"},
            "spec": {
                "queues": [{"name": queue}],
                "redis": {"service": {"name": "redis"}},
                "worker": _worker(backend),
                "scaling": _scaling(),
            },
        }
    )


def _worker(backend: Backend) -> dict[str, object]:
    variables = {"LOG_LEVEL": "warning", "OLLAMA_STALL_TIMEOUT": str(STALL_SECONDS * 1_000)}
    if backend == "echo":
        variables["ECHO_TOKEN_DELAY"] = str(ECHO_TOKEN_DELAY_MS)
    return {
        "backend": backend,
        "concurrency": CONCURRENCY,
        "timeoutSeconds": JOB_SECONDS,
        "drainSeconds": JOB_SECONDS,
        "env": [{"name": name, "value": value} for name, value in variables.items()],
    }


def _scaling() -> dict[str, object]:
    step = {"type": "Pods", "value": STEP_WORKERS, "periodSeconds": STEP_SECONDS}
    all_at_once = {"type": "Percent", "value": 100, "periodSeconds": 1}
    return {
        "minReplicas": 0,
        "maxReplicas": MOST_WORKERS,
        "idleSeconds": IDLE_SECONDS,
        "metrics": [{"type": "QueueDepth", "queueDepth": {"averageValue": JOBS_PER_WORKER}}],
        "behavior": {
            "scaleUp": {"stabilizationWindowSeconds": 0, "policies": [step]},
            "scaleDown": {"stabilizationWindowSeconds": 0, "policies": [all_at_once]},
        },
    }


def workers_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What the workers inherit: all but a worker's own settings, which somebody may have set for other workers."""
    from llmpool_worker.settings import Settings

    settings = {name.upper() for name in Settings.model_fields}
    return {name: value for name, value in environment.items() if name.upper() not in settings}
