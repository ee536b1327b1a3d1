"""Every name that OpenTelemetry and CloudEvents give to what is told, in one place: most of them are still moving.

GenAI spans: https://github.com/open-telemetry/semantic-conventions-genai (status Development). Messaging spans: the
core conventions, likewise in development. CloudEvents 1.0 with its Kafka binding and its tracing extension.
"""

from __future__ import annotations

# Spans for messages: one per attempt at a job.
MESSAGING_SYSTEM = "messaging.system"
MESSAGING_OPERATION = "messaging.operation.name"
MESSAGING_OPERATION_TYPE = "messaging.operation.type"
MESSAGING_DESTINATION = "messaging.destination.name"
MESSAGING_MESSAGE_ID = "messaging.message.id"
PROCESS = "process"
REDIS = "redis"

# Spans for model calls.
GEN_AI_OPERATION = "gen_ai.operation.name"
GEN_AI_PROVIDER = "gen_ai.provider.name"
GEN_AI_REQUEST_MODEL = "gen_ai.request.model"
GEN_AI_REQUEST_STREAM = "gen_ai.request.stream"
GEN_AI_FINISH_REASONS = "gen_ai.response.finish_reasons"
GEN_AI_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
GEN_AI_INPUT_TOKENS = "gen_ai.usage.input_tokens"
GEN_AI_OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
OPERATIONS = {"chat": "chat", "generate": "text_completion", "embed": "embeddings"}
"""A job's type as GenAI's conventions call it."""

# Of both.
ERROR_TYPE = "error.type"
SERVICE_NAME = "service.name"
SERVICE_VERSION = "service.version"
SERVICE_INSTANCE = "service.instance.id"

# Ours, where the conventions have none.
POOL = "llmpool.pool"
HANDLE = "llmpool.handle"
OUTCOME = "llmpool.outcome"
ATTEMPTS = "llmpool.attempts"
DELIVERIES = "llmpool.deliveries"
TENANT = "llmpool.tenant"
QUEUED = "llmpool.queued_seconds"
SLOT_WAIT = "llmpool.slot_wait_seconds"
LOAD = "llmpool.load_seconds"
PROMPT = "llmpool.prompt_seconds"
EVAL = "llmpool.eval_seconds"
FALLBACK_FROM = "llmpool.fallback_from"
RULES = "llmpool.rules"

# CloudEvents over Kafka in binary mode: each attribute is a header, the data is the record's value.
EVENT_TYPE = "dev.llmpool.job."
"""Followed by the outcome."""
CE_SPECVERSION, SPECVERSION = "ce_specversion", "1.0"
CE_ID = "ce_id"
CE_SOURCE = "ce_source"
CE_TYPE = "ce_type"
CE_SUBJECT = "ce_subject"
CE_TIME = "ce_time"
CE_TRACEPARENT = "ce_traceparent"
TRACEPARENT = "traceparent"
"""Beside CloudEvents' own: what OpenTelemetry's instrumentation of a consumer reads."""
CONTENT_TYPE, JSON = "content-type", "application/json"
