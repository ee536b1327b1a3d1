"""What the settings alone decide: limits, retries, and which backend."""

from __future__ import annotations

from .backends import Backend
from .policy import RetryPolicy
from .queue.store import Limits
from .runner import RunLimits
from .settings import Settings

KEEP_S = 60
"""How much longer than MODEL_IDLE_TIMEOUT Ollama itself keeps a model, seconds: we unload first, and when the last
worker is gone nothing holds memory for good."""


def make_retries(s: Settings) -> RetryPolicy:
    """When a failed attempt is followed by another."""
    return RetryPolicy(s.ollama_max_retries, s.retry_backoff, s.retry_backoff_max)


def make_limits_of_queues(s: Settings) -> Limits:
    """What the scripts keep to."""
    return Limits(
        lease_ms=s.worker_lease,
        job_max_bytes=s.job_max_bytes,
        result_ttl_ms=s.result_ttl,
        stream_ttl_ms=s.stream_ttl,
        dead_max_entries=s.dead_max_entries,
        dead_max_bytes=s.dead_max_bytes,
        slot_units=s.worker_batch_size,
        fair=s.tenant_fairness,
        tenants=s.tenant_bounds,
    )


def make_run_limits(s: Settings) -> RunLimits:
    """What one attempt keeps to."""
    return RunLimits(
        timeout_s=s.worker_timeout / 1_000,
        request_s=s.ollama_timeout / 1_000,
        stall_s=s.ollama_stall_timeout / 1_000,
        output_max_bytes=s.output_max_bytes,
    )


def make_backend(s: Settings) -> Backend:
    """The one that BACKEND names. Imports what it needs and no more."""
    if s.backend == "echo":
        from .backends.echo import EchoBackend

        return EchoBackend(s.echo_token_delay / 1_000)
    from .backends.http import HttpServer

    server = HttpServer(
        s.ollama_base_url, connect_timeout_s=s.ollama_connect_timeout / 1_000, connections=s.worker_concurrency
    )
    if s.backend == "openai":
        from .backends.openai import OpenAIBackend

        return OpenAIBackend(server, batch_size=s.worker_batch_size)
    from .backends.ollama import OllamaBackend

    options = {model: of.options for model, of in s.model_settings.items() if of.options}
    return OllamaBackend(
        server,
        batch_size=s.worker_batch_size,
        runner_options=options,
        num_predict=s.ollama_num_predict or None,
        keep_alive_s=s.model_idle_timeout // 1_000 + KEEP_S if s.model_idle_timeout else None,
    )
