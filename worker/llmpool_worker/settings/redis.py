"""Where the queues are, and how to get in."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from llmpool_contract import env
from llmpool_contract.redis_url import TLS_OPTIONS, RedisAddress, parse_redis_url

_D = env.DEFAULTS

_VERIFY: dict[str, dict[str, Any]] = {
    "full": {},
    "ca": {"ssl_check_hostname": False},
    "none": {"ssl_check_hostname": False, "ssl_cert_reqs": "none"},
}


class RedisSettings(BaseModel):
    """The connection to Redis."""

    redis_url: SecretStr = Field(default=SecretStr(str(_D[env.REDIS_URL])))
    """`redis://`, `rediss://`, `unix://`, `redis+sentinel://` or `redis+cluster://`, with user and password if you
    must: see [Redis: Sentinel, Cluster, TLS](#redis-sentinel-cluster-tls)"""
    redis_username: str | None = None
    """Beside `REDIS_URL`, for one that comes from a Secret"""
    redis_password: SecretStr | None = None
    """The same"""
    redis_sentinel_username: str | None = None
    """For Sentinels that ask for a login of their own"""
    redis_sentinel_password: SecretStr | None = None
    """The same"""
    redis_tls_ca: Path | None = None
    """File with the certificates of the authorities that may sign Redis' certificate. Unset: the system's"""
    redis_tls_cert: Path | None = None
    """File with this worker's certificate, where Redis asks for one"""
    redis_tls_key: Path | None = None
    """File with its key; unset: it is in `REDIS_TLS_CERT`'s file"""
    redis_tls_verify: Literal["full", "ca", "none"] = "full"
    """What of Redis' certificate is checked: `full`, `ca` (who signed it, not for which host) or `none`"""

    @field_validator("redis_url")
    @classmethod
    def _redis_url(cls, value: SecretStr) -> SecretStr:
        check_redis_url(value.get_secret_value())
        return value

    @field_validator("redis_tls_ca", "redis_tls_cert", "redis_tls_key")
    @classmethod
    def _readable(cls, value: Path | None) -> Path | None:
        if value is not None:
            try:
                value.open("rb").close()
            except OSError as error:
                raise ValueError(f"wanted a file that can be read: {error.strerror}") from None
        return value

    @model_validator(mode="after")
    def _fits_the_address(self) -> Self:
        address = parse_redis_url(self.redis_url.get_secret_value())
        login = _given(self, "redis_sentinel_username", "redis_sentinel_password")
        if login and address.mode != "sentinel":
            raise ValueError(f"{login}: given, but REDIS_URL names no Sentinels: wanted redis+sentinel:// there")
        tls = _given(self, "redis_tls_ca", "redis_tls_cert", "redis_tls_key", "redis_tls_verify")
        if tls and not address.tls:
            raise ValueError(f"{tls}: given, but REDIS_URL isn't for TLS: wanted rediss at its beginning")
        if tls and (options := TLS_OPTIONS & address.options.keys()):
            raise ValueError(f"{tls}: given, and REDIS_URL has {', '.join(sorted(options))} too: wanted one of the two")
        if self.redis_tls_key and not self.redis_tls_cert:
            raise ValueError("REDIS_TLS_KEY: given without REDIS_TLS_CERT, which it is the key of")
        return self

    @property
    def redis_address(self) -> RedisAddress:
        """All of the above in one: for ``Connections``."""
        address = parse_redis_url(self.redis_url.get_secret_value())
        address = address.with_options(username=self.redis_username, password=_secret(self.redis_password))
        address = address.with_sentinel_login(
            username=self.redis_sentinel_username, password=_secret(self.redis_sentinel_password)
        )
        return address.with_options(
            ssl_ca_certs=_text(self.redis_tls_ca),
            ssl_certfile=_text(self.redis_tls_cert),
            ssl_keyfile=_text(self.redis_tls_key),
            **_VERIFY[self.redis_tls_verify],
        )


def check_redis_url(url: str) -> None:
    """Raises ValueError with a reason that repeats nothing of the address."""
    parse_redis_url(url)


def _given(settings: RedisSettings, *names: str) -> str:
    """Which of these aren't left at their defaults, as variables."""
    defaults = {name: RedisSettings.model_fields[name].default for name in names}
    return ", ".join(name.upper() for name in names if getattr(settings, name) != defaults[name])


def _secret(value: SecretStr | None) -> str | None:
    return value.get_secret_value() or None if value else None


def _text(value: Path | None) -> str | None:
    return str(value) if value else None
