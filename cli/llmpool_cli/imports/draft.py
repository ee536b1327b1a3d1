"""A pool that comes of somebody else's object: its spec so far, and what is to be said about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from llmpool_contract.labels import API_VERSION, KIND

from .fields import Fields, ImportFault, without_nulls


@dataclass(frozen=True)
class Given:
    """What the file can't say, from the command line. Empty: not given."""

    name: str = ""
    redis_url: str = ""
    redis_secret: str = ""
    queues: tuple[str, ...] = ()
    prometheus_url: str = ""
    query: str = ""


@dataclass
class Draft:
    """Grows while the object is read."""

    source: Fields
    given: Given
    spec: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    schedules: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """One sentence for each thing that has no counterpart, or another meaning here; each begins with its field."""

    def note(self, at: str, sentence: str) -> None:
        """Say something about a field of the source."""
        self.notes.append(f"{at}: {sentence}")

    @property
    def scaling(self) -> dict[str, Any]:
        """``spec.scaling``, to write into."""
        found: dict[str, Any] = self.spec.setdefault("scaling", {})
        return found

    def document(self) -> dict[str, Any]:
        """The pool, in the order in which people read one."""
        metadata = self.source.part("metadata")
        name = self.given.name or metadata.needed("name")
        namespace = {"namespace": metadata.text("namespace")} if metadata.has("namespace") else {}
        scaling = {**self.scaling, "metrics": self.metrics}
        if self.schedules:
            scaling["schedules"] = self.schedules
        first = ("replicas", "queues", "redis", "prometheus", "mode", "target", "paused")
        spec = {name: self.spec[name] for name in first if name in self.spec}
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": name, **namespace},
            "spec": {**spec, "scaling": scaling},
        }


def take_target(draft: Draft) -> None:
    """``mode: Observe`` at the Deployment that is scaled today."""
    target = draft.source.part("spec").part("scaleTargetRef")
    kind, api = target.text("kind", "Deployment"), target.text("apiVersion", "apps/v1")
    if kind != "Deployment" or not api.startswith("apps/"):
        raise ImportFault(f"{target.at('kind')}: got {kind} of {api}, allowed is Deployment of apps/v1")
    draft.spec["mode"] = "Observe"
    draft.spec["target"] = {"name": target.needed("name")}


def take_behavior(draft: Draft, holder: Fields) -> None:
    """``behavior``, which is the same, field for field."""
    if behavior := without_nulls(holder.part("behavior").given):
        draft.scaling["behavior"] = behavior
        return
    draft.note(
        holder.at("behavior"),
        "absent. An HPA then grows to twice its size or 4 within 15 s at most, this pool at once; "
        "`behavior: {}` is an HPA's default for a behavior that is there",
    )


def settle_queues(draft: Draft, *, reads: str) -> None:
    """Queues and a Redis, from the options where the object has none.

    Raises:
        ImportFault: neither has any. ``reads`` is the field that might have.
    """
    given = draft.given
    if given.queues:
        known = {queue["name"] for queue in draft.spec.get("queues", ())}
        more = [{"name": name} for name in given.queues if name not in known]
        draft.spec["queues"] = [*draft.spec.get("queues", ()), *more]
    if not draft.spec.get("queues"):
        raise ImportFault(f"{reads}: names no Redis list, so the queues must be given: --queue NAME")
    if given.redis_url:
        draft.spec["redis"] = {"url": given.redis_url}
    if "redis" not in draft.spec:
        raise ImportFault(f"{reads}: names no Redis, so its address must be given: --redis-url URL")
    if given.redis_secret:
        draft.spec["redis"]["credentialsSecret"] = {"name": given.redis_secret}
    if not draft.metrics:
        draft.metrics.append({"type": "QueueDepth", "queueDepth": {"averageValue": 5}})
        draft.note("spec.scaling.metrics", "the default, as nothing that asks for a size was taken over")
