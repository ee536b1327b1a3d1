"""The Redis user that the documents propose for the operator."""

from pathlib import Path


def documented_user() -> list[str]:
    """The commands that make it, password PASSWORD, in their order."""
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    found = [line for line in text.splitlines() if line.startswith("ACL SETUSER llmpool-operator ")]
    assert found, "the documents propose none"
    return found
