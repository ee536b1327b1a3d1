"""Objects in a YAML file, as kubectl prints them: any number of documents and of lists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

MAX_LENGTH = 16_777_216
"""Characters of a file: a list of sixty pools, each as large as one may be, fits."""


class NotObjects(ValueError):
    """What is no such file. The message is one line: where in it, what was found, what is allowed."""


def objects_in(text: str) -> list[dict[str, Any]]:
    """The objects, those of lists one by one; a document that is empty counts as none.

    Raises:
        NotObjects: too long, no YAML, or something in it is no mapping.
    """
    if len(text) > MAX_LENGTH:
        raise NotObjects(f"document: {len(text)} characters, allowed are {MAX_LENGTH}")
    try:
        documents = list(yaml.safe_load_all(text))
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # ValueError: a date that isn't one
        raise NotObjects(f"document: not YAML: {' '.join(str(error).split())}") from None
    return [found for document in documents if document is not None for found in _unpacked(document)]


def kind_of_value(value: Any) -> str:
    """What something is that should have been something else, in a few words."""
    match value:
        case list():
            return "a list"
        case dict():
            return "a mapping"
    return repr(value)[:40]


def _unpacked(document: Any) -> Iterator[dict[str, Any]]:
    whole = _mapping("document", document)
    if not str(whole.get("kind")).endswith("List"):
        yield whole
        return
    items = whole.get("items") or []
    if not isinstance(items, list):
        raise NotObjects(f"items: got {kind_of_value(items)}, wanted a list")
    for index, item in enumerate(items):
        yield _mapping(f"items[{index}]", item)


def _mapping(path: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise NotObjects(f"{path}: got {kind_of_value(value)}, wanted a mapping")
    return value
