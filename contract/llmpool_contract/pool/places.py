"""Where the things are that a pool needs: Redis, the model server, Prometheus."""

from __future__ import annotations

import re
from typing import Annotated, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, Field, model_validator

from llmpool_contract.redis_url import TLS_OPTIONS, parse_redis_url

from .parts import HTTP_URL, SUBDOMAIN, Part, Service, check_exactly_one
from .worker import Resources

# Options of TLS alone: `?password=` would be a way round the Secret, and redis-py has options that load what they name.
_REDIS_URL = r"^rediss?(\+sentinel|\+cluster)?://[^@\s?#]+(\?ssl_[a-z_]+=[^&\s@#]*(&ssl_[a-z_]+=[^&\s@#]*)*)?$"
_HOST = r"([^,:/?\[\]]+|\[[0-9a-fA-F:.]+\])(:[0-9]{0,5})?"
REDIS_HOSTS = rf"^[a-z+]+://{_HOST}(,{_HOST})*(/|\?|$)"
_OPTIONS = TLS_OPTIONS - {"ssl_certfile", "ssl_keyfile"}
"""Not a client certificate: the operator, which reads each pool's Redis, would have to show one of its own."""
DEFAULT_OLLAMA_IMAGE = "ollama/ollama:0.17.4"
SIDECAR_URL = "http://127.0.0.1:11434"
GPU_RESOURCE = "nvidia.com/gpu"


def _redis_address(url: str) -> str:
    parse_redis_url(url)
    if not re.match(REDIS_HOSTS, url):
        raise ValueError("wanted hosts as host, host:port or [IPv6]:port")
    if wrong := sorted(parse_qs(urlsplit(url).query, keep_blank_values=True).keys() - _OPTIONS):
        raise ValueError(f"option {', '.join(wrong)}: allowed are {', '.join(sorted(_OPTIONS))}")
    return url


def _http_address(url: str) -> str:
    """The pattern lets some hosts and ports pass that can't be, such as ``[::::]`` and 99999."""
    try:
        parts = urlsplit(url)
        known = bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise ValueError("not an address: wanted host, host:port or [IPv6]:port after ://")
    return url


_RedisUrl = Annotated[str, Field(max_length=512, pattern=_REDIS_URL), AfterValidator(_redis_address)]
_HttpUrl = Annotated[str, Field(max_length=512, pattern=HTTP_URL), AfterValidator(_http_address)]


class RedisService(Service):
    """``service`` of ``spec.redis``."""

    port: int = Field(default=6379, ge=1, le=65_535)


class OllamaService(Service):
    """``service`` of ``spec.ollama``."""

    port: int = Field(default=11_434, ge=1, le=65_535)


class PrometheusService(Service):
    """``service`` of ``spec.prometheus``."""

    port: int = Field(default=9090, ge=1, le=65_535)


class SecretRef(Part):
    """A Secret in the pool's own namespace."""

    name: str = Field(max_length=253, pattern=SUBDOMAIN)


class Redis(Part):
    """Where the queues are: exactly one of ``url`` and ``service``."""

    url: _RedisUrl | None = None
    """Without a password: that is what ``credentials_secret`` is for. Sentinels and clusters as ``redis_url.py`` has
    them."""
    service: RedisService | None = None
    credentials_secret: SecretRef | None = None

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        check_exactly_one(url=self.url, service=self.service)
        return self

    def url_from(self, namespace: str) -> str:
        """The address without credentials, as seen from any namespace of the cluster."""
        if self.service is None:
            return self.url or ""
        return f"redis://{self.service.name}.{namespace}.svc:{self.service.port}/0"


class Sidecar(Part):
    """An Ollama in each worker's pod."""

    image: str = Field(default=DEFAULT_OLLAMA_IMAGE, min_length=1, max_length=512, pattern=r"^\S+$")
    gpus: int = Field(default=1, ge=0, le=16)
    """``nvidia.com/gpu`` of each pod. 0: on the CPU."""
    parallel: int = Field(default=1, ge=1, le=1_024)
    """OLLAMA_NUM_PARALLEL: requests of one model at the same time."""
    models_claim: str | None = Field(default=None, max_length=253, pattern=SUBDOMAIN)
    """A PersistentVolumeClaim with the models. Absent: each pod begins with none."""
    resources: Resources = Field(default_factory=Resources)

    @model_validator(mode="after")
    def _gpus_have_their_field(self) -> Self:
        for field, amounts in (("limits", self.resources.limits), ("requests", self.resources.requests)):
            if GPU_RESOURCE in amounts:
                raise ValueError(f"resources.{field}: {GPU_RESOURCE}: set by gpus, not allowed here")
        return self


class Ollama(Part):
    """Where the model server is: exactly one of ``url``, ``service`` and ``sidecar``."""

    url: _HttpUrl | None = None
    service: OllamaService | None = None
    sidecar: Sidecar | None = None

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        check_exactly_one(url=self.url, service=self.service, sidecar=self.sidecar)
        return self

    def url_from(self, namespace: str) -> str:
        """The address as seen from a worker's pod."""
        if self.sidecar is not None:
            return SIDECAR_URL
        if self.service is None:
            return self.url or ""
        return self.service.url_from(namespace)


class Prometheus(Part):
    """A Prometheus server: exactly one of ``url`` and ``service``."""

    url: _HttpUrl | None = None
    """Without a login and without a query; a path before ``/api/v1`` may be part of it."""
    service: PrometheusService | None = None

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        check_exactly_one(url=self.url, service=self.service)
        return self

    def url_from(self, namespace: str) -> str:
        """The address, as seen from any namespace of the cluster."""
        if self.service is None:
            return self.url or ""
        return self.service.url_from(namespace)


class Target(Part):
    """The Deployment that ``mode: Observe`` looks at."""

    name: str = Field(max_length=253, pattern=SUBDOMAIN)
