"""What a worker tells others: traces, events, notifications, analytics."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from llmpool_contract import env
from llmpool_worker.telling.signing import signing_key

from .units import HOUR_MS

_D = env.DEFAULTS

T = TypeVar("T")

_BROKER = re.compile(r"[A-Za-z0-9._-]+:[0-9]{1,5}|\[[0-9A-Fa-f:.]+\]:[0-9]{1,5}")
_URL = re.compile(r"https?://[^\s/@?#]+(/\S*)?")


class TelemetrySettings(BaseModel):
    """Who is told what, beside logs and `/metrics`."""

    performance_sample_rate: float = Field(default=float(_D[env.PERFORMANCE_SAMPLE_RATE]), ge=0, le=1)
    """[share] Of the jobs, those that are told in detail: traced, in analytics, in debug mode's timelines. A job whose
    `traceparent` is sampled is always traced, one whose isn't never. A tenth shows where time goes at a tenth of the
    cost; `1.0` for a debug session"""
    enable_debug_mode: bool = bool(_D[env.ENABLE_DEBUG_MODE])
    """A timeline of each sampled job (at `LOG_LEVEL=debug`), where the loop was held up, and more in `/health`. Never
    a prompt or an answer"""
    otel_exporter_otlp_endpoint: str | None = Field(default=None, pattern=r"^https?://[^\s/@?#]+(/\S*)?$")
    """OTLP over HTTP, such as `http://localhost:4318`; `/v1/traces` is added. Unset: no traces. Needs the extra
    `tracing`"""
    otel_service_name: str = Field(default="llm-worker", min_length=1, max_length=128)
    """The service's name in traces"""
    kafka_brokers: str | None = None
    """Comma-separated, `host:port`. Unset: no events to Kafka. Needs the extra `kafka`"""
    kafka_topic: str = Field(default="llm-worker-events", pattern=r"^[A-Za-z0-9._-]{1,249}$")
    """Where the events go"""
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """`PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`, in any case"""
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    """`PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`, in any case"""
    kafka_sasl_username: str | None = None
    """For the two `SASL` protocols"""
    kafka_sasl_password: SecretStr | None = None
    """The same"""
    kafka_ssl_ca_file: str | None = None
    """Certificates to trust, PEM. Unset: the system's"""
    kafka_ssl_cert_file: str | None = None
    """The worker's own certificate, PEM"""
    kafka_ssl_key_file: str | None = None
    """Its key, where the certificate's file doesn't hold it"""
    notify_url: SecretStr | None = None
    """Where failures and breakers are posted to, `http://` or `https://`. Unset: nowhere"""
    notify_secret: SecretStr | None = None
    """Signs them (HMAC-SHA256); a text, or `whsec_` and Base64"""
    notify_interval: int = Field(default=60_000, ge=1_000, le=24 * HOUR_MS)
    """At most one notification in this time for each queue and error code, with a count"""
    analytics_url: SecretStr | None = None
    """Where processing metrics are posted to. Unset: nowhere"""
    analytics_interval: int = Field(default=10_000, ge=1_000, le=HOUR_MS)
    """Between two batches of them"""

    @field_validator("kafka_security_protocol", "kafka_sasl_mechanism", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @field_validator("kafka_brokers")
    @classmethod
    def _brokers(cls, value: str | None) -> str | None:
        for broker in value.split(",") if value else ():
            if not _BROKER.fullmatch(broker.strip()):
                raise ValueError("wanted host:port, several by commas")
        return value and value.replace(" ", "")

    @field_validator("notify_url", "analytics_url")
    @classmethod
    def _web_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _URL.fullmatch(value.get_secret_value()):
            raise ValueError("wanted http:// or https:// and a host, without user or password")
        return value

    @field_validator("kafka_ssl_ca_file", "kafka_ssl_cert_file", "kafka_ssl_key_file")
    @classmethod
    def _is_a_file(cls, value: str | None) -> str | None:
        if value is not None and not Path(value).is_file():
            raise ValueError("there is no such file")
        return value

    @model_validator(mode="after")
    def _extras_are_here(self) -> Self:
        if self.kafka_brokers:
            _need("KAFKA_BROKERS", "kafka", "aiokafka")
        if self.otel_exporter_otlp_endpoint:
            _need("OTEL_EXPORTER_OTLP_ENDPOINT", "tracing", "opentelemetry.exporter.otlp.proto.http")
        return self

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.kafka_security_protocol.startswith("SASL") and not (
            self.kafka_sasl_username and self.kafka_sasl_password
        ):
            raise ValueError(
                f"KAFKA_SECURITY_PROTOCOL: {self.kafka_security_protocol} needs KAFKA_SASL_USERNAME and _PASSWORD"
            )
        self.notify_key()
        return self

    def notify_key(self) -> bytes | None:
        """What notifications are signed with; None: they aren't. Raises ValueError, which names the variable."""
        if self.notify_secret is None:
            return None
        secret = self.notify_secret.get_secret_value().strip()
        key = _told_by("NOTIFY_SECRET", lambda: signing_key(secret))
        if not key:
            raise ValueError("NOTIFY_SECRET: it is empty")
        return key


def _told_by(name: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{name}: {reason}") from None


def _need(variable: str, extra: str, module: str) -> None:
    """Look without importing it: a worker's settings are also read by those who only print them."""
    try:
        found = find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it would be in isn't there either
        found = False
    if not found:
        raise ValueError(f"{variable}: needs the extra {extra}: pip install 'llm-worker-pool[{extra}]'")
