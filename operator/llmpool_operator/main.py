"""``llmpool-operator``."""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys

from .version import own_version

_GC = (20_000, 20, 20)
"""When the collector looks for cycles. A turn makes many small objects and hardly a cycle; at Python's own 700 a tenth
of the CPU of 1,000 pools went into looking."""


def main() -> None:
    """Run the operator from environment variables. Exit status 2: a setting can't be used; 3: no longer the leader."""
    parser = argparse.ArgumentParser(
        prog="llmpool-operator",
        description="Sizes LLMWorkerPools by their backlog. Settings come from environment variables: WATCH_NAMESPACE, "
        "KUBECONFIG, WORKER_IMAGE, OPERATOR_TICK, OPERATOR_RELIST, REDIS_READ_TIMEOUT, HEALTH_PORT, LOG_LEVEL, "
        "WEB_ACCESS, WEB_HOSTS, LEADER_ELECTION, LEADER_LEASE, LEADER_NAMESPACE, LEADER_LEASE_DURATION.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {own_version()}")
    parser.parse_args()
    sys.exit(_run())


def _run() -> int:
    # Not above: --version and --help need none of it, and Kopf alone takes a third of a second.
    import structlog

    from .app import run
    from .leader import LeadershipLost
    from .logs import set_up
    from .settings import SettingsError, load

    try:
        settings = load()
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - there is no log yet, its level is one of the settings
        return 2
    set_up(settings.log_level)
    gc.set_threshold(*_GC)
    try:
        asyncio.run(run(settings))
    except LeadershipLost as error:
        structlog.get_logger(__name__).error("leadership lost: the process ends", why=str(error))
        return 3
    except OSError as error:
        what = f"HEALTH_PORT {settings.health_port}: {error.strerror or error}"
        print(f"llmpool-operator can't start: {what}", file=sys.stderr)  # noqa: T201 - for whoever started it
        return 1
    return 0
