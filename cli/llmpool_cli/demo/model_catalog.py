"""What a model server lists, and which of it the demo takes."""

from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import httpx2

PREFERRED = "gemma3:270m"
PROBE_SECONDS = 3.0
# Where Ollama is too old to list capabilities, the family tells: these only embed.
EMBEDDING_FAMILIES = frozenset(
    {"bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "xlm-roberta", "gemma-embedding"}
)


@dataclass(frozen=True)
class Catalog:
    """The models of one server: all names it lists, and those that chat, smallest first where sizes are known."""

    backend: Literal["ollama", "openai"]
    names: tuple[str, ...]
    chat: tuple[str, ...]

    def pick(self, wanted: str | None) -> str | None:
        """The wanted model if listed (`:latest` may be left out); without one gemma3:270m, else the smallest."""
        if wanted is not None:
            return next((name for name in self.names if name in {wanted, f"{wanted}:latest"}), None)
        return PREFERRED if PREFERRED in self.chat else next(iter(self.chat), None)


def read(base_url: str) -> Catalog | None:
    """The server's catalog by /api/tags (Ollama), else by /v1/models; None if it answers neither with a list."""
    with httpx2.Client(timeout=PROBE_SECONDS, trust_env=False) as client:
        tags = get_list(client, f"{base_url}/api/tags", "models")
        if tags is not None:
            return from_tags(tags)
        models = get_list(client, f"{base_url}/v1/models", "data")
        return None if models is None else from_openai(models)


def get_list(client: httpx2.Client, url: str, field: str) -> list[dict[str, Any]] | None:
    """The list of objects under `field`, or None where there is no such answer."""
    try:
        reply = client.get(url)
        body = reply.json() if reply.status_code == httpx2.codes.OK else None
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError):
        return None
    if not isinstance(body, dict) or not isinstance(body.get(field), list):
        return None
    return [entry for entry in body[field] if isinstance(entry, dict)]


def from_tags(entries: list[dict[str, Any]]) -> Catalog:
    """Ollama's list, by size."""
    named = sorted((e for e in entries if e.get("name")), key=lambda e: (e.get("size") or 0, e["name"]))
    return Catalog("ollama", tuple(e["name"] for e in named), tuple(e["name"] for e in named if chats(e)))


def from_openai(entries: list[dict[str, Any]]) -> Catalog:
    """The list of /v1/models, in its order; it says nothing of what a model can do."""
    names = tuple(str(e["id"]) for e in entries if e.get("id"))
    return Catalog("openai", names, names)


def chats(entry: dict[str, Any]) -> bool:
    """Whether an entry of /api/tags is a model of this machine that completes text."""
    if entry.get("remote_host") or entry["name"].endswith(("-cloud", ":cloud")):
        return False  # it would send the prompts away
    capabilities = entry.get("capabilities")
    if capabilities:
        return "completion" in capabilities
    details = entry.get("details") or {}
    families = {details.get("family"), *(details.get("families") or ())}
    return not families & EMBEDDING_FAMILIES and "embed" not in entry["name"]


def without_user(url: str) -> str:
    """The URL without user and password, for messages."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
