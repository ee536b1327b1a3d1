"""``llmpool batch submit|status|wait|cancel|results|list``."""

from __future__ import annotations

import typer

from .results import results
from .submit import submit
from .watch import cancel, list_, status, wait

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Files of requests in OpenAI's Batch format: submit, watch, cancel, collect.",
)
app.command()(submit)
app.command()(status)
app.command()(wait)
app.command()(cancel)
app.command()(results)
app.command("list")(list_)
