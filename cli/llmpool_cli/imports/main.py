"""``llmpool import scaledobject|hpa FILE``."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from .draft import Draft, Given
    from .fields import Fields

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Print a pool that watches beside today's autoscaler (mode Observe), from the object that it is told by.",
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="YAML, as kubectl prints it; `-` is standard input.")]
Name = Annotated[str, typer.Option(help="The pool's name, in place of the object's.")]
RedisUrl = Annotated[str, typer.Option(help="Where the queues are, in place of what the file says.")]
RedisSecret = Annotated[str, typer.Option(help="Secret with Redis' password, in the pool's namespace.")]
Queues = Annotated[list[str] | None, typer.Option("--queue", help="A queue more. May be given several times.")]
PrometheusUrl = Annotated[str, typer.Option(help="The Prometheus server, in place of what the file says.")]


@app.command()
def scaledobject(
    file: File,
    name: Name = "",
    redis_url: RedisUrl = "",
    redis_secret: RedisSecret = "",
    queue: Queues = None,
    prometheus_url: PrometheusUrl = "",
) -> None:
    """From KEDA's ScaledObject: lists become queues, queries metrics, cron triggers schedules."""
    from .draft import Given
    from .scaledobject import from_scaledobject

    given = Given(name, redis_url, redis_secret, tuple(queue or ()), prometheus_url)
    _print(file, "ScaledObject", "keda.sh", from_scaledobject, given)


@app.command()
def hpa(
    file: File,
    name: Name = "",
    redis_url: RedisUrl = "",
    redis_secret: RedisSecret = "",
    queue: Queues = None,
    prometheus_url: PrometheusUrl = "",
    query: Annotated[str, typer.Option(help="What the External metric measures, in PromQL.")] = "",
) -> None:
    """From a HorizontalPodAutoscaler: bounds and behavior; what it measures, the options must say."""
    from .draft import Given
    from .hpa import from_hpa

    given = Given(name, redis_url, redis_secret, tuple(queue or ()), prometheus_url, query)
    _print(file, "HorizontalPodAutoscaler", "autoscaling", from_hpa, given)


def _print(file: Path, kind: str, group: str, take: Callable[[Fields, Given], Draft], given: Given) -> None:
    from llmpool_contract.pool import PoolError, parse_pool

    from .fields import ImportFault, read_object

    try:
        draft = take(read_object(_text(file), kind, group), given)
        document = draft.document()
        parse_pool(document)
    except ImportFault as fault:
        raise typer.BadParameter(str(fault), param_hint=str(file)) from None
    except PoolError as error:
        faults = "\n".join(f"  {fault}" for fault in error.faults)
        raise typer.BadParameter(f"what would come of it is no pool:\n{faults}", param_hint=str(file)) from None
    typer.echo(written(document, draft), nl=False)


def _text(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"can't be read: {error}", param_hint=str(file)) from None


def written(document: dict[str, Any], draft: Draft) -> str:
    """The pool as YAML, with a head that says what it does and where it differs."""
    import yaml

    pool, source = document["metadata"]["name"], draft.source
    head = [
        f"From {source.text('kind')} {source.part('metadata').text('name')}. The pool decides and reports, and changes "
        f"nothing: `kubectl get lwp {pool}` shows the size that it would take.",
        "To let it take over: delete the autoscaler and its Deployment, for a pool brings workers of its own, and "
        "remove mode and target here.",
    ]
    if draft.notes:
        head += ["", "Where it differs:", *(f"- {note}" for note in draft.notes)]
    comment = "".join(f"# {line}".rstrip() + "\n" for text in head for line in _wrapped(_one_line(text)))
    return comment + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def _wrapped(text: str) -> list[str]:
    hanging = "  " if text.startswith("- ") else ""
    lines = textwrap.wrap(text, 100, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False)
    return lines or [""]


def _one_line(text: str) -> str:
    """Without line ends and what else could end a comment: names in it are from somebody's file."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
