"""``llmpool``: the composition of its subcommands."""

from __future__ import annotations

from typing import Annotated

import typer

from .lazy import LazyGroup


class _Commands(LazyGroup):
    lazy_commands = (
        ("demo", "llmpool_cli.demo.main:demo", "Show the whole pool at work on this machine, with a real model."),
        ("local", "llmpool_cli.local:local", "Size worker processes on this machine from a pool's YAML."),
        ("top", "llmpool_cli.top.main:top", "Watch pools, queues, workers, models and decisions, live."),
        ("pools", "llmpool_cli.pools:pools", "List the pools of a cluster."),
        ("explain", "llmpool_cli.explain:explain", "Say why a pool has the size it has."),
        ("resume", "llmpool_cli.resume:resume", "Turn autoscaling on again after a size by hand."),
        ("import", "llmpool_cli.imports.main:app", "Make a pool from a KEDA ScaledObject or an HPA, to compare."),
        (
            "simulate",
            "llmpool_cli.simulate.main:simulate_command",
            "Play a trace of jobs in virtual time, to this pool, to an HPA and to KEDA.",
        ),
        ("submit", "llmpool_cli.submit:app", "Submit a chat, generate or embed job and print its answer."),
        ("result", "llmpool_cli.jobs:result", "Print a job's result; wait for it where need be."),
        ("status", "llmpool_cli.jobs:status", "Say whether all is well, or where a job stands."),
        ("why", "llmpool_cli.why:why", "Say what a job waits for, and why."),
        ("cancel", "llmpool_cli.jobs:cancel", "Cancel a job, queued or running."),
        ("batch", "llmpool_cli.batch.main:app", "Submit, watch and collect files in OpenAI's Batch format."),
        ("queues", "llmpool_cli.queues:queues", "Count what is in the queues."),
        ("dead", "llmpool_cli.dead:app", "List, show, replay and purge dead letters."),
        ("decide", "llmpool_cli.decide:decide", "Decide sizes as the operator does: JSON lines in, JSON lines out."),
        ("schema", "llmpool_cli.schema:schema", "Print the JSON Schema of a job or a result."),
    )


app = typer.Typer(cls=_Commands, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import version

    typer.echo(f"llmpool {version('llm-worker-pool')}")
    raise typer.Exit


@app.callback()
def _llmpool(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Background LLM jobs from Redis to Ollama, by a pool of workers that sizes itself."""


def main() -> None:
    """Entry point."""
    app(prog_name="llmpool")
