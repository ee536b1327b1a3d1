"""Tenants: whose turn it is, and how much each may have."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, field_validator

_MOST = 1_000_000_000


class TenantLimit(BaseModel):
    """What one tenant may use of a queue in a minute. None: no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    jobs: int | None = Field(default=None, ge=1, le=_MOST)
    tokens: int | None = Field(default=None, ge=1, le=_MOST)


class FairnessSettings(BaseModel):
    """Tenants (a job's `tenant`)."""

    tenant_fairness: bool = True
    """Whether tenants take turns: of the first 64 jobs of a list, the next is that of the tenant who was served longest
    ago. Jobs without a `tenant` are one tenant's"""
    tenant_jobs_per_minute: int | None = Field(default=None, ge=1, le=_MOST)
    """[jobs] What a tenant may have of a queue in a minute; beyond, its jobs wait among the delayed ones. Unset: no
    limit"""
    tenant_tokens_per_minute: int | None = Field(default=None, ge=1, le=_MOST)
    """[tokens] The same in tokens, read and written, as the model server counted them: known only afterwards, so a
    minute may end above it by the jobs under way"""
    tenant_limits: dict[str, TenantLimit] = Field(default_factory=dict, max_length=1_000)
    """JSON: tenant -> `jobs` and `tokens` a minute, in place of the two above"""

    @field_validator("tenant_limits")
    @classmethod
    def _tenants(cls, value: dict[str, TenantLimit]) -> dict[str, TenantLimit]:
        if bad := next((tenant for tenant in value if not 1 <= len(tenant) <= 128 or tenant == "*"), None):
            raise ValueError(f"got tenant {bad[:40]!r}, wanted 1 to 128 characters, and not '*'")
        return value

    @property
    def tenant_bounds(self) -> Mapping[str, Mapping[str, int]]:
        """As the claim script takes them: tenant, or ``*`` for the others -> ``j`` and ``t``. Empty: no limits."""
        default = TenantLimit(jobs=self.tenant_jobs_per_minute, tokens=self.tenant_tokens_per_minute)
        named = {tenant: _bounds(limit) for tenant, limit in self.tenant_limits.items()}
        others = _bounds(default)
        return {**named, **({"*": others} if others else {})}


def _bounds(limit: TenantLimit) -> dict[str, int]:
    found = {"j": limit.jobs, "t": limit.tokens}
    return {kind: bound for kind, bound in found.items() if bound is not None}
