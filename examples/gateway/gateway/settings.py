"""What the environment says, checked once at the start."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass


class BadSettings(ValueError):
    """A variable that is missing or wrong; never repeats a key."""


@dataclass(frozen=True)
class Settings:
    """All settings with their defaults."""

    redis_url: str = "redis://localhost:6379/0"
    keys: tuple[tuple[str, bytes], ...] = ()
    """(tenant, SHA-256 of its key). Empty: nobody is asked, and all are the tenant ``open``."""
    models: tuple[str, ...] = ()
    """Models that are offered. Empty: any name goes to the workers, and ``/v1/models`` lists none."""
    wait_s: float = 120.0
    """How long an answer is waited for, s; a request may ask for less."""
    keepalive_s: float = 10.0
    """Pause after which a silent stream gets a comment, s: below the idle timeout of common proxies."""
    max_queued: int | None = None
    """Most jobs that this gateway lets wait in a queue."""
    max_streams: int = 200
    """Most streams at a time: each holds one connection to Redis."""
    max_body_bytes: int = 2 * 2**20

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read the variables; an empty one counts as unset.

        Raises:
            BadSettings: naming the variable.
        """
        keys = _keys(env.get("GATEWAY_KEYS", ""))
        if not keys and env.get("GATEWAY_OPEN") != "true":
            raise BadSettings("GATEWAY_KEYS: missing; give TENANT=KEY,... or GATEWAY_OPEN=true to ask nobody")
        return cls(
            redis_url=env.get("REDIS_URL") or cls.redis_url,
            keys=keys,
            models=tuple(name.strip() for name in env.get("GATEWAY_MODELS", "").split(",") if name.strip()),
            wait_s=_number(env, "GATEWAY_WAIT", cls.wait_s, 1, 86_400),
            keepalive_s=_number(env, "GATEWAY_KEEPALIVE", cls.keepalive_s, 0.1, 3_600),
            max_queued=int(_number(env, "GATEWAY_MAX_QUEUED", 0, 0, 10**9)) or None,
            max_streams=int(_number(env, "GATEWAY_MAX_STREAMS", cls.max_streams, 1, 10_000)),
        )

    def tenant_of(self, authorization: str | None) -> str | None:
        """Whose key it is; None: nobody's. Compares with all keys, in a time that says nothing of them."""
        if not self.keys:
            return "open"
        scheme, _, key = (authorization or "").partition(" ")
        given = hashlib.sha256(key.strip().encode()).digest()
        found = [tenant for tenant, digest in self.keys if hmac.compare_digest(digest, given)]
        return found[0] if found and scheme.lower() == "bearer" else None


def _keys(text: str) -> tuple[tuple[str, bytes], ...]:
    pairs = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    for number, (tenant, _, key) in enumerate(pairs, 1):
        if not 0 < len(tenant) <= 128 or not key:
            raise BadSettings(f"GATEWAY_KEYS: entry {number} isn't TENANT=KEY with a tenant of 1 to 128 characters")
    return tuple((tenant, hashlib.sha256(key.encode()).digest()) for tenant, _, key in pairs)


def _number(env: Mapping[str, str], name: str, default: float, low: float, high: float) -> float:
    text = env.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise BadSettings(f"{name}: got {text[:40]!r}, wanted a number from {low:g} to {high:g}")
    return value
