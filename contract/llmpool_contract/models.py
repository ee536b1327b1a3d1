"""Models' names, as Ollama reads them."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=1_024)  # asked several times for each job, and of few models
def folded(name: str) -> str:
    """A model's name with the tag that Ollama adds to a bare one: ``all-minilm`` is ``all-minilm:latest``.

    Two names are of one model where their folded names are equal. A registry's port is no tag.
    """
    return name if not name or ":" in name.rpartition("/")[2] else f"{name}:latest"


def is_cloud(name: str) -> bool:
    """Whether Ollama runs this model elsewhere: prompts would leave the place that they were meant for."""
    tag = name.rpartition("/")[2].partition(":")[2]
    return tag == "cloud" or tag.endswith("-cloud")
