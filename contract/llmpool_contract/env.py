"""The worker's environment variables: names, and the defaults that the documents promise.

One table: the worker's settings, the operator's Deployment, compose files and the chart all take the names from here,
and a test holds their defaults to these. Durations are milliseconds, as the first users had them.
"""

REDIS_URL = "REDIS_URL"
REDIS_USERNAME = "REDIS_USERNAME"
REDIS_PASSWORD = "REDIS_PASSWORD"  # noqa: S105 - a name
"""Beside REDIS_URL, so that no secret is part of an address."""
WORKER_POOL = "WORKER_POOL"
WORKER_ID = "WORKER_ID"
WORKER_QUEUES = "WORKER_QUEUES"
WORKER_CONCURRENCY = "WORKER_CONCURRENCY"
WORKER_BATCH_SIZE = "WORKER_BATCH_SIZE"
WORKER_TIMEOUT = "WORKER_TIMEOUT"
WORKER_LEASE = "WORKER_LEASE"
WORKER_DRAIN = "WORKER_DRAIN"
OLLAMA_BASE_URL = "OLLAMA_BASE_URL"
OLLAMA_TIMEOUT = "OLLAMA_TIMEOUT"
OLLAMA_MAX_RETRIES = "OLLAMA_MAX_RETRIES"
BACKEND = "BACKEND"
HEALTH_HOST = "HEALTH_HOST"
HEALTH_PORT = "HEALTH_PORT"
LOG_LEVEL = "LOG_LEVEL"

DEFAULTS: dict[str, str | int] = {
    REDIS_URL: "redis://redis-master:6379/0",
    WORKER_POOL: "local/default",
    WORKER_QUEUES: "llm-chat,llm-generate,llm-embed",
    WORKER_CONCURRENCY: 5,
    WORKER_BATCH_SIZE: 10,
    WORKER_TIMEOUT: 300_000,
    WORKER_LEASE: 30_000,
    WORKER_DRAIN: 600_000,
    OLLAMA_BASE_URL: "http://ollama:11434",
    OLLAMA_TIMEOUT: 300_000,
    OLLAMA_MAX_RETRIES: 3,
    BACKEND: "ollama",
    HEALTH_HOST: "0.0.0.0",  # noqa: S104 - probes come from outside the container
    HEALTH_PORT: 3008,
    LOG_LEVEL: "info",
}
"""WORKER_ID has no fixed default: it is the host's name, so that ``--scale`` needs nothing."""
