"""What the spans of a job say. Pure, and without a word of a prompt or an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from . import names
from .events import JobEvent

Attributes = dict[str, str | int | float | bool | list[str]]

_FINE = frozenset({"succeeded", "cancelled", "expired", "released", "dropped"})
"""Outcomes that are no error of this attempt's."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who tells, and which model server it asks."""

    service: str
    version: str
    worker: str
    pool: str
    provider: str
    """BACKEND: GenAI's conventions have no name of their own for Ollama."""
    server_url: str


def consumer_attributes(event: JobEvent) -> Attributes:
    """Of ``process <queue>``. Pure."""
    return _known(
        {
            names.MESSAGING_SYSTEM: names.REDIS,
            names.MESSAGING_OPERATION: names.PROCESS,
            names.MESSAGING_OPERATION_TYPE: names.PROCESS,
            names.MESSAGING_DESTINATION: event.queue,
            names.MESSAGING_MESSAGE_ID: event.job_id,
            names.HANDLE: event.handle,
            names.OUTCOME: event.outcome,
            names.ATTEMPTS: event.attempts,
            names.DELIVERIES: event.deliveries,
            names.TENANT: event.tenant,
            names.QUEUED: event.queued_s,
            names.SLOT_WAIT: event.slot_wait_s,
            names.RULES: list(event.rules) or None,
            names.ERROR_TYPE: error_of(event),
        }
    )


def client_attributes(event: JobEvent, origin: Origin) -> Attributes:
    """Of ``chat <model>``. Pure."""
    server = urlsplit(origin.server_url)
    return _known(
        {
            names.GEN_AI_OPERATION: operation_of(event),
            names.GEN_AI_PROVIDER: origin.provider,
            names.GEN_AI_REQUEST_MODEL: event.asked,
            names.GEN_AI_REQUEST_STREAM: event.stream or None,
            names.GEN_AI_FINISH_REASONS: [event.finish_reason] if event.finish_reason else None,
            names.GEN_AI_FIRST_CHUNK: event.first_token_s,
            names.GEN_AI_INPUT_TOKENS: event.input_tokens,
            names.GEN_AI_OUTPUT_TOKENS: event.output_tokens,
            names.SERVER_ADDRESS: server.hostname,
            names.SERVER_PORT: server.port or {"http": 80, "https": 443}.get(server.scheme),
            names.LOAD: event.load_s,
            names.PROMPT: event.prompt_s,
            names.EVAL: event.eval_s,
            names.FALLBACK_FROM: event.fallback_from,
            names.ERROR_TYPE: error_of(event),
        }
    )


def operation_of(event: JobEvent) -> str:
    """What GenAI's conventions call this type of job."""
    return names.OPERATIONS.get(event.job_type or "", "unknown")


def error_of(event: JobEvent) -> str | None:
    """The error's code where this attempt failed."""
    return None if event.outcome in _FINE else event.code or event.outcome


def _known(attributes: dict[str, Any]) -> Attributes:
    return {name: value for name, value in attributes.items() if value is not None}
