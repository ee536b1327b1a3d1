"""Writes the worker's table in docs/configuration.md from its settings: `make docs`.

A setting's docstring is its meaning; `[unit]` at its beginning is the unit that the name doesn't tell.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "configuration.md"
MS_ENDINGS = (
    "_AGE", "_BACKOFF", "_DELAY", "_DRAIN", "_INTERVAL", "_LEASE", "_MAX_WAIT", "_QUANTUM", "_TIMEOUT", "_TTL", "_WAIT",
    "BACKOFF_MAX",
)  # fmt: skip


def default_of(name: str, field: FieldInfo) -> str:
    """A default as the documents write it."""
    if name == "worker_id":
        return "the host's name"
    if field.default_factory is not None:
        return "none"
    value = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def range_of(field: FieldInfo) -> str:
    """``1 to 1024``, or empty for what isn't a number."""
    bounds: dict[str, Any] = {}
    for rule in field.metadata:
        bounds |= {end: getattr(rule, end) for end in ("gt", "ge", "le") if hasattr(rule, end)}
    if "gt" in bounds:
        return f"above {bounds['gt']} to {bounds['le']}"
    return f"{bounds['ge']} to {bounds['le']}" if bounds else ""


def unit_of(variable: str) -> str:
    """The unit that a worker's variable promises by its name; empty: none."""
    if variable.endswith("_BYTES"):
        return "bytes"
    if variable.endswith("_PORT"):
        return "port"
    return "ms" if variable.endswith(MS_ENDINGS) else ""


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Each field's docstring, of the model and of what it is made of."""
    found: dict[str, str] = {}
    for part in model.__mro__:
        if not part.__module__.startswith("llmpool_"):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(part))).body
        assert isinstance(tree, ast.ClassDef)
        for field, text in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                assert isinstance(field.target, ast.Name)
                found[field.target.id] = " ".join(str(text.value.value).split())
    return found


def rows(model: type[BaseModel]) -> list[str]:
    """The table's rows, in the fields' order. KeyError: a setting without a docstring."""
    texts, made = meanings(model), []
    for name, field in model.model_fields.items():
        variable = name.upper()
        unit, text = re.fullmatch(r"(?:\[(.*?)\] )?(.*)", texts[name]).groups()  # type: ignore[union-attr]
        default = default_of(name, field)
        default = default if default in ("none", "the host's name") else f"`{default}`"
        made.append(
            f"| `{variable}` | {default} | {range_of(field)} | {unit or unit_of(variable)} | {text.removesuffix('.')} |"
        )
    return [re.sub(r"\|  (?=\|)", "| ", row) for row in made]


def written(document: str, model: type[BaseModel]) -> str:
    """``document`` with the worker's table made anew."""
    head = "| Variable | Default | Allowed | Unit | Meaning |\n|---|---|---|---|---|\n"
    start = document.index(head, document.index("## The worker")) + len(head)
    end = start + re.match(r"(?:\|.*\n)*", document[start:]).end()  # type: ignore[union-attr]
    return document[:start] + "\n".join(rows(model)) + "\n" + document[end:]


def main() -> None:
    from llmpool_worker.settings import Settings

    text = DOCUMENT.read_text(encoding="utf-8")
    made = written(text, Settings)
    if "--check" in sys.argv[1:]:
        sys.exit(0 if made == text else "docs/configuration.md is behind the settings: make docs")
    DOCUMENT.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
