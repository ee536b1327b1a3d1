"""Writes the table of fields in docs/pools.md from the CRD: `make docs`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
CRD = ROOT / "crds" / "llmworkerpools.yaml"
DOCUMENT = ROOT / "docs" / "pools.md"
HEAD = "| Field | Default | Allowed | Meaning |\n|---|---|---|---|\n"
_AS_SCALE_UP = "behavior.scaleDown"
"""The same fields again: told once."""


def spec_schema() -> dict[str, Any]:
    """The schema of ``spec`` as the CRD has it."""
    crd = yaml.safe_load(CRD.read_text(encoding="utf-8"))
    schema: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return schema


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Path, schema and whether it must be there, of each field, outer ones first."""
    needed = schema.get("required", ())
    for name, part in schema.get("properties", {}).items():
        here = f"{path}{name}"
        yield here, part, name in needed
        if not here.endswith(_AS_SCALE_UP):
            yield from fields(part, f"{here}.")
            yield from fields(part.get("items", {}), f"{here}[].")


def rows() -> list[str]:
    """The table's rows."""
    return [
        f"| `{path}` | {_default(part, needed)} | {_allowed(part)} | {_meaning(path, part)} |".replace("|  ", "| ")
        for path, part, needed in fields(spec_schema())
    ]


def _default(part: dict[str, Any], needed: bool) -> str:
    if needed:
        return "needed"
    return f"`{json.dumps(part['default'])}`" if part.get("default") not in (None, {}, [], "") else ""


def _allowed(part: dict[str, Any]) -> str:
    if "enum" in part:
        return ", ".join(f"`{value}`" for value in part["enum"])
    if "maximum" in part:
        least = f"above {part['minimum']}" if part.get("exclusiveMinimum") else str(part["minimum"])
        return f"{least} to {part['maximum']}"
    if part.get("type") == "array":
        return f"{part.get('minItems', 0)} to {part['maxItems']} entries"
    if "maxProperties" in part and "additionalProperties" in part:
        return f"at most {part['maxProperties']} entries"
    return f"at most {part['maxLength']} characters" if "maxLength" in part else ""


def _meaning(path: str, part: dict[str, Any]) -> str:
    if path.endswith(_AS_SCALE_UP):
        return "The same fields as `scaleUp` has"
    return " ".join(part["description"].split()).removesuffix(".").replace("|", "\\|")


def written(document: str) -> str:
    """``document`` with its table made anew."""
    start = document.index(HEAD) + len(HEAD)
    rest = document[start:].splitlines(keepends=True)
    after = next((n for n, line in enumerate(rest) if not line.startswith("|")), len(rest))
    return document[:start] + "\n".join(rows()) + "\n" + "".join(rest[after:])


def main() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    made = written(text)
    if "--check" in sys.argv[1:]:
        sys.exit(0 if made == text else "docs/pools.md is behind the CRD: make docs")
    DOCUMENT.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
