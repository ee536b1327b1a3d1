"""What can go wrong with a batch."""

from __future__ import annotations

from collections.abc import Sequence

from llmpool_client.errors import ClientError

MOST_FAULTS = 20


class BadBatch(ClientError, ValueError):
    """A file that is no batch. Nothing was sent. ``faults``: at most :data:`MOST_FAULTS`, each with its line."""

    def __init__(self, name: str, faults: Sequence[str]) -> None:
        super().__init__(f"{name}: {'; '.join(faults)}")
        self.name = name
        self.faults = tuple(faults)


class UnknownBatch(ClientError, LookupError):
    """None of the queues looked at has a batch of this id, or its record has lapsed."""


class OtherBatch(ClientError):
    """The id belongs to a batch of another file."""


class BatchTimeout(ClientError, TimeoutError):
    """The batch has not ended yet. It goes on."""
