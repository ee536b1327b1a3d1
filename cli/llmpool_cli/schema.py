"""``llmpool schema job|result``: the contract for those who write producers in other languages."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import typer

from llmpool_contract import Job, Result

DIALECT = "https://json-schema.org/draft/2020-12/schema"
BASE = "https://llmpool.dev/schemas/v1alpha1/"
"""Names the schemas; nothing is fetched from there."""
_NEEDED = {"chat": "messages", "generate": "prompt", "embed": "input"}


def schema(what: Annotated[Literal["job", "result"], typer.Argument(metavar="job|result")]) -> None:
    """Print the JSON Schema (draft 2020-12) of a job or of a result."""
    typer.echo(json.dumps(schema_of(what), indent=2))


def schema_of(what: Literal["job", "result"]) -> dict[str, Any]:
    """The models' own schema; for a job also which field its type needs.

    Some rules can't be said in a schema: sizes in bytes, nesting, texts of blanks only. The worker checks those too.
    """
    model = Job if what == "job" else Result
    head = {"$schema": DIALECT, "$id": f"{BASE}{what}.json"}
    rules = {"allOf": [_needs(*pair) for pair in _NEEDED.items()]} if what == "job" else {}
    return head | model.model_json_schema() | rules


def _needs(job_type: str, field: str) -> dict[str, Any]:
    return {
        "if": {"properties": {"type": {"const": job_type}}, "required": ["type"]},
        "then": {"required": [field]},
    }
