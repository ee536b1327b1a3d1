"""``llmpool-worker``: settings from the environment, signals to a staged stop."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

from pydantic import SecretStr
from pydantic.fields import FieldInfo

if TYPE_CHECKING:
    from .app import App

USAGE = """usage: llmpool-worker [--help | --version | --check [-o text|json]]

Takes jobs from Redis to a model server until SIGTERM or SIGINT, then drains: it claims nothing new, finishes what runs
within WORKER_DRAIN ms, gives the rest back and exits 0. A second signal gives back at once.
--check tries the settings on Redis and on the model server, prints what it found, and exits 1 if something failed.
Settings are environment variables, durations in milliseconds:
"""


def main() -> None:
    """The console script."""
    match sys.argv[1:]:
        case []:
            sys.exit(_run())
        case ["--version"]:
            sys.stdout.write(f"llmpool-worker {version('llm-worker-pool')}\n")
        case ["--check"]:
            sys.exit(_check("text"))
        case ["--check", "-o" | "--output", "text" | "json" as form]:
            sys.exit(_check(form))
        case ["--help"] | ["-h"]:
            sys.stdout.write(USAGE + _settings())
        case _:
            sys.stderr.write(USAGE)
            sys.exit(2)


def _settings() -> str:
    from .settings import Settings

    return "".join(f"  {name.upper()} ({_default(field)})\n" for name, field in Settings.model_fields.items())


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "the host's name" if field.default_factory is socket.gethostname else "not set"
    match field.default:
        case bool():
            return str(field.default).lower()
        case None:
            return "not set"
        case SecretStr() as secret:
            return secret.get_secret_value()
    return str(field.default)


def _run() -> int:
    from .app import App
    from .filters import RulesError
    from .settings import SettingsError, load, misspelt_variables
    from .telling.logs import configure, log

    try:
        settings = load()
    except SettingsError as error:
        sys.stderr.write(f"llmpool-worker can't start:\n{error}\n")
        return 2
    try:
        configure(settings.log_level, file=settings.log_file)
    except OSError as error:
        sys.stderr.write(f"llmpool-worker can't start:\nLOG_DIR: {settings.log_dir}: {error.strerror or error}\n")
        return 2
    for name, meant in misspelt_variables().items():
        log.warning("unknown_variable", variable=name, did_you_mean=meant)
    try:
        app = App(settings)
    except RulesError as error:
        sys.stderr.write(f"llmpool-worker can't start:\nFILTER_RULES: {error}\n")
        return 2
    try:
        asyncio.run(_serve(app))
    except OSError as error:
        where = f"HEALTH_HOST {settings.health_host}, HEALTH_PORT {settings.health_port}"
        hint = "another worker may have it; HEALTH_PORT=0 takes any free one"
        sys.stderr.write(f"llmpool-worker can't start: {where}: {error.strerror or error} ({hint})\n")
        return 1
    return 0


def _check(form: str) -> int:
    from .check import Row, State, as_json, as_text, check_all, failed
    from .from_settings import make_backend
    from .settings import SettingsError, load, misspelt_variables

    try:
        settings = load()
    except SettingsError as error:
        rows = [Row("settings", State.FAIL, line) for line in str(error).splitlines()]
    else:
        rows = asyncio.run(check_all(settings, make_backend(settings), misspelt_variables()))
    sys.stdout.write(as_json(rows) if form == "json" else as_text(rows))
    return 1 if failed(rows) else 0


async def _serve(app: App) -> None:
    stop, hurry = asyncio.Event(), asyncio.Event()

    def signalled() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    await app.run(stop, hurry)


if __name__ == "__main__":
    main()
