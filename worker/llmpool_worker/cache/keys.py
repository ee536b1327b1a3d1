"""When two requests are the same: the key holds all that decides an answer, and nothing else. Pure.

What is nested in ``format``, ``tools`` and ``messages`` counts in its own order: a schema's properties are answered in
the order in which they stand, so two schemas that differ in it aren't the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from llmpool_contract import Job
from llmpool_contract.models import folded
from llmpool_worker.backends.base import input_texts

VERSION = 1
"""Of the keys and of the values under them: another one finds nothing of the old."""
DECIDING = ("type", "messages", "prompt", "system", "options", "format", "tools", "think", "images")
"""Fields of a job that go into its key as they are; ``model``, ``tenant`` and ``input`` go in too."""
_HASH_BYTES = 24


@dataclass(frozen=True, slots=True)
class Serving:
    """What decides an answer beside the job."""

    backend: str = ""
    """The kind of server: each has its own way with a prompt."""
    digest: str | None = None
    """The model's weights, where the server tells: a name may come to mean others."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Runner options that each request of the model carries."""


def uncacheable(job: Job) -> str | None:
    """Why a job's answer can't be another one's; None: it can.

    Embeddings are always the same. A text is only what the model always answers where it picks the likeliest token
    (temperature 0) from a known start (a seed), and the job has said both: defaults are the server's, and may change.
    Tools and images are no hindrance: they are part of the question, and a model only asks for a tool's call.
    """
    if not job.cache:
        return "cache isn't asked for"
    if job.type == "embed":
        return None
    if job.options is None or job.options.temperature != 0:
        return "options.temperature isn't 0"
    return "options.seed isn't given" if job.options.seed is None else None


def cache_keys(job: Job, serving: Serving, *, shared: bool) -> list[str]:
    """A hash for each answer that a job asks for: one per text to embed, else one. Empty: it can't be cached.

    ``shared``: across tenants. Otherwise a tenant's answers are found by its own jobs alone, as how fast one comes
    tells whether the question was asked before.
    """
    if uncacheable(job):
        return []
    asked = {
        "v": VERSION,
        "model": folded(job.model),
        "backend": serving.backend,
        "digest": serving.digest,
        "runner": sorted(serving.options.items()),
        "whose": "all" if shared else {"tenant": job.tenant},
        **job.model_dump(include=set(DECIDING), exclude_none=True),
    }
    begun = blake2b(json.dumps(asked, separators=(",", ":")).encode(), digest_size=_HASH_BYTES)
    if job.type != "embed":
        return [begun.hexdigest()]
    return [_with(begun, text) for text in input_texts(job)]


def _with(begun: blake2b, text: str) -> str:
    whole = begun.copy()
    whole.update(b"\n" + text.encode())
    return whole.hexdigest()
