"""The operator's settings: environment variables, typed and checked once. Durations are seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

ALL_NAMESPACES = "*"
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class SettingsError(ValueError):
    """A setting that can't be used. Names the variable, what was given and what is allowed."""


class Settings(BaseSettings):
    """Read from the environment; every field is the variable of its name."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, hide_input_in_errors=False, case_sensitive=False)

    watch_namespace: str = Field(default="", pattern=r"^(\*|[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$")
    """The namespace whose pools are served; ``*``: all of them. Empty: the one the operator runs in."""
    kubeconfig: str = ""
    """A kubeconfig file. Empty: the pod's service account, else ``~/.kube/config``."""
    worker_image: str = Field(default="", max_length=512)
    """The image of pools that name none. Empty: such pools are refused."""
    operator_tick: float = Field(default=1.0, ge=0.1, le=10)
    """How often every pool is decided; well below what ``/healthz`` takes for a standstill."""
    operator_relist: float = Field(default=120.0, ge=5, le=3600)
    """How often the whole list of pools is read, which finds what a watch missed."""
    redis_read_timeout: float = Field(default=0.8, ge=0.05, le=10)
    """What one reading of a Redis may take, connecting included; less than a tick, so that one Redis delays none."""
    prometheus_allow_loopback: bool = False
    """Whether a pool's Prometheus may be an address of this machine itself. Else who creates pools could ask its
    other services."""
    health_port: int = Field(default=8080, ge=0, le=65535)
    """``/healthz``, ``/metrics`` and the page. 0: any free port, which the log names."""
    web_access: Literal["local", "all", "off"] = "local"
    """Who may read the page on ``HEALTH_PORT``, which has no login. ``local``: this machine alone, in a pod those who
    may ``kubectl port-forward``; ``all``: whoever reaches the port; ``off``: there is no page."""
    web_hosts: str = Field(default="", max_length=2048, pattern=r"^[A-Za-z0-9.,-]*$")
    """Names under which the page may be reached, beside addresses, names without a dot and those of the cluster:
    separated by commas. Others are refused, so that no page of elsewhere can pass itself off as this one."""
    leader_election: bool = True
    """Off: this process leads at once. Two at once do no harm but write twice."""
    leader_lease: str = Field(default="llmpool-operator", pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
    """The Lease that operators of the same pools share, and operators of other pools must not."""
    leader_namespace: str = Field(default="", pattern=r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$")
    """Where the Lease lives. Empty: the namespace that is served; where that is all of them, the operator's own."""
    leader_lease_duration: int = Field(default=15, ge=3, le=300)
    """After a leader's death the next one begins within this and two fifteenths more. API calls may take two fifths."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("log_level", "web_access", mode="before")
    @classmethod
    def _any_case(cls, given: object) -> object:
        return given.lower() if isinstance(given, str) else given

    @property
    def web_names(self) -> frozenset[str]:
        """The names of ``web_hosts``."""
        return frozenset(name.lower() for name in self.web_hosts.split(",") if name)

    @property
    def namespace(self) -> str | None:
        """The namespace to serve; None: all."""
        if self.watch_namespace == ALL_NAMESPACES:
            return None
        return self.watch_namespace or _own_namespace()

    @property
    def lease_namespace(self) -> str:
        """By what is served, so that two operators of one namespace each, side by side, don't wait for each other."""
        return self.leader_namespace or self.namespace or _own_namespace()


def _own_namespace() -> str:
    try:
        return _OWN_NAMESPACE.read_text(encoding="ascii").strip() or "default"
    except OSError:
        return "default"


def load() -> Settings:
    """Read the environment.

    Raises:
        SettingsError: with one line per variable that can't be used.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = [f"{str(fault['loc'][0]).upper()}: {fault['msg']}, got {fault['input']!r}" for fault in error.errors()]
        raise SettingsError("\n".join(lines)) from None
