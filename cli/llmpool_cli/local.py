"""``llmpool local``: the operator's decisions, acted out by worker processes on this machine."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llmpool_contract.pool import LLMWorkerPool
    from llmpool_operator.targets.base import Turn
    from llmpool_operator.targets.local_run import LocalRun


def local(
    file: Annotated[Path, typer.Option("-f", "--file", help="The pool's YAML.", exists=True, dir_okay=False)],
    redis_url: Annotated[
        str | None,
        typer.Option(envvar="REDIS_URL", help="In place of the pool's redis (a Service is its port on localhost)."),
    ] = None,
    ollama_url: Annotated[
        str | None, typer.Option(envvar="OLLAMA_BASE_URL", help="In place of the pool's ollama, likewise.")
    ] = None,
    backend: Annotated[str | None, typer.Option(help="In place of worker.backend: ollama, openai or echo.")] = None,
) -> None:
    """Size worker processes on this machine by the pool's queues. Ctrl-C drains them, a second one ends them."""
    from llmpool_contract import env
    from llmpool_contract.redis_url import TLS_OPTIONS
    from llmpool_operator.observe import POOL_OPTIONS, fault_of
    from llmpool_operator.targets.local_run import LocalRun, redis_url_of, shown_address

    pool = _pool(file, backend)
    url = redis_url or redis_url_of(pool)
    if url is None:
        raise typer.BadParameter(
            "the pool's redis needs a Secret, so the address must be given", param_hint="--redis-url"
        )
    # Client certificates too: the files are the caller's own.
    if fault := fault_of(url, allowed=POOL_OPTIONS | TLS_OPTIONS):
        raise typer.BadParameter(fault, param_hint="--redis-url")
    typer.echo(f"pool {pool.key} at {shown_address(url)}: {_queues(pool)}; Ctrl-C drains the workers and ends")
    run = LocalRun(
        pool=pool,
        redis_url=url,
        ollama_url=ollama_url,
        on_turn=Lines().turn,
        on_note=_line,
        environment={env.LOG_LEVEL: "warning", **os.environ},  # the decisions are what one wants to see here
    )
    asyncio.run(_run(run))


def _pool(file: Path, backend: str | None) -> LLMWorkerPool:
    """The pool of a file; ``backend`` is checked as if the file had it."""
    from llmpool_contract.pool import PoolError, load_pool, parse_pool
    from llmpool_operator.decide import fault_in_schedules

    try:
        pool = load_pool(file.read_text(encoding="utf-8"))
        if fault := fault_in_schedules(pool.spec.scaling):
            raise typer.BadParameter(f"spec.{fault}", param_hint=str(file))
        if pool.spec.mode == "Observe":  # its queues have workers already, whose jobs ours would take
            raise typer.BadParameter("spec.mode: got Observe, allowed here is Active", param_hint=str(file))
        if backend is None:
            return pool
        document = pool.model_dump(by_alias=True, exclude_none=True)
        document["spec"]["worker"]["backend"] = backend
        return parse_pool(document)
    except PoolError as error:
        raise typer.BadParameter(str(error), param_hint=str(file)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"can't be read: {error}", param_hint=str(file)) from None


def _queues(pool: LLMWorkerPool) -> str:
    return ", ".join(queue.name for queue in pool.spec.queues)


async def _run(run: LocalRun) -> None:
    from llmpool_operator.targets.local_run import run_local

    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            hurry.set()
            return
        stop.set()
        _line("draining the workers; once more ends them at once")

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    await run_local(run, stop=stop, hurry=hurry)
    _line("all workers have ended")


class Lines:
    """One line for each turn that says something new."""

    def __init__(self) -> None:
        self._last: tuple[object, ...] = ()

    def turn(self, turn: Turn) -> None:
        """Print the decision if its size or its reason is another than before."""
        decision = turn.decision
        if decision is None:
            return
        news = (decision.replicas, decision.reason, str(turn.failure))
        if news == self._last:
            return
        self._last = news
        step = f"{turn.resized[0]} -> {turn.resized[1]}" if turn.resized else f"{decision.replicas}"
        _line(f"{step:>8}  {decision.reason}: {decision.message}")
        if turn.failure is not None:
            _line(f"          {turn.failure}")


def _line(text: str) -> None:
    try:
        typer.echo(f"{time.strftime('%H:%M:%S')}  {text}")
    except OSError:
        # The terminal or the pipe is gone: the drain goes on unheard, and Python's last flush must not fail either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
