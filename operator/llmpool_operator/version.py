"""Which release this is."""

from importlib.metadata import PackageNotFoundError, version

DISTRIBUTION = "llm-worker-pool"


def own_version() -> str:
    """The installed distribution's version; ``unknown`` when run from files that nobody installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"
