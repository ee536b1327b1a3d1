"""A pool from a file: one document, or the one of a list, as kubectl prints them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NoReturn

from llmpool_contract.labels import KIND

from .kube_yaml import NotObjects, objects_in
from .session import USAGE, fail


def read_file(file: Path, name: str | None, namespace: str | None) -> dict[str, Any]:
    """The pool of a file; ``name`` and ``namespace`` choose where there are several. Ends the command where none is."""
    found = [pool for pool in _pools(file) if _fits(pool, name, namespace)]
    wanted = KIND if name is None else f"{KIND} {name}"
    if not found:
        _no(file, f"no {wanted} in it")
    if len(found) > 1:
        names = ", ".join(sorted(f"{pool['metadata'].get('namespace')}/{pool['metadata']['name']}" for pool in found))
        _no(file, f"more than one {wanted}: {names}; name one, with -n where need be")
    return found[0]


def _pools(file: Path) -> list[dict[str, Any]]:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        _no(file, f"can't be read: {error}")
    try:
        return [found for found in objects_in(text) if _is_pool(found)]
    except NotObjects as fault:
        _no(file, str(fault))


def _is_pool(item: dict[str, Any]) -> bool:
    if item.get("kind") != KIND:
        return False
    metadata, status = item.get("metadata"), item.get("status", {})
    return isinstance(metadata, dict) and isinstance(metadata.get("name"), str) and isinstance(status, dict)


def _fits(pool: dict[str, Any], name: str | None, namespace: str | None) -> bool:
    metadata = pool["metadata"]
    return name in (None, metadata["name"]) and namespace in (None, metadata.get("namespace"))


def _no(file: Path, why: str) -> NoReturn:
    fail(f"{'stdin' if str(file) == '-' else file}: {why}", USAGE)
