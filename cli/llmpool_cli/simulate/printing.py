"""The table, and the same as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict

import typer

from llmpool_cli.terminal import table

from .outcome import SHARES, Outcome
from .policies import Terms
from .trace import Trace


def print_table(outcomes: Sequence[Outcome], slo: float) -> None:
    """One row for each policy."""
    headers = ["policy", "jobs", f"in {slo:g}s", *(f"wait p{share}" for share in SHARES)]
    headers += ["end p95", "replica-h", "peak", "ups", "downs", "cut", "twice"]
    rows = [_row(outcome) for outcome in outcomes]
    widths = [max(len(headers[n]), *(len(str(row[n])) for row in rows)) for n in range(len(headers))]
    # Figures with the same decimals, padded to one width: so they stand under each other.
    table(headers, [[row[0], *(_padded(cell, n, widths) for n, cell in enumerate(row) if n)] for row in rows])
    for outcome in outcomes:
        if outcome.unfinished:
            hours = f"{outcome.seconds / 3600:.1f} h"
            typer.echo(f"{outcome.policy}: {outcome.unfinished} jobs had not ended after {hours}, when it was given up")


def _row(outcome: Outcome) -> list[str | int]:
    return [
        outcome.policy,
        outcome.jobs,
        f"{outcome.within_slo * 100:.2f} %",
        *(_seconds(wait) for wait in outcome.waits),
        _seconds(outcome.turnarounds[SHARES.index(95)]),
        f"{outcome.replica_hours:.2f}",
        outcome.peak,
        outcome.ups,
        outcome.downs,
        outcome.cut,
        outcome.twice,
    ]


def _padded(cell: str | int, column: int, widths: Sequence[int]) -> str | int:
    return cell if isinstance(cell, int) else cell.rjust(widths[column])


def _seconds(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}s"


def to_json(outcomes: Sequence[Outcome], trace: Trace, terms: Terms, slo: float) -> str:
    """Outcomes, and all that they depend on."""
    return json.dumps(
        {
            "trace": {"name": trace.name, "jobs": len(trace), "seconds": round(trace.span, 3)},
            "slo_seconds": slo,
            "seed": terms.seed,
            "worker": asdict(terms.worker),
            "peers": asdict(terms.peers),
            "scaling": terms.spec.scaling.model_dump(mode="json", by_alias=True, exclude_none=True),
            "policies": [outcome.to_dict() for outcome in outcomes],
        },
        indent=2,
    )
