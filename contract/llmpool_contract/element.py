r"""How a job travels once a worker has touched it: a versioned header, then the producer's bytes, unchanged.

A job in a ready list is either a producer's bare JSON or such an element; so are the members of ``{q}:delayed`` and
the values of ``{q}:claimed``. Lua and Python both read it, so it is plain text::

    \x01 1 | origin | priority | deliveries | attempts | first claimed ms | len(worker) | len(id) | worker id body

JSON never starts with ``\x01``, so a bare body and an element can't be mixed up. ``tests/test_element.py`` holds the
Lua reading of it to this one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .keys import Priority

MAGIC = b"\x01"
_HEADER = re.compile(
    rb"\x011\|([0-9A-Za-z:_-]{1,128})\|([hnl])\|(\d{1,9})\|(\d{1,9})\|(\d{1,15})\|(\d{1,6})\|(\d{1,6})\|"
)
_PRIORITY: dict[bytes, Priority] = {b"h": "high", b"n": "normal", b"l": "low"}


@dataclass(frozen=True, slots=True)
class Element:
    """A job's bytes and what has happened to it so far."""

    body: bytes
    origin: str = ""
    """The handle of its first claim: the job's own identity, whatever its body says. Empty: never claimed."""
    priority: Priority = "normal"
    deliveries: int = 0
    """Claims that did not end cleanly, the present one included: what a job that kills its worker runs up."""
    attempts: int = 0
    """Attempts that failed in a way worth retrying."""
    first_claimed_ms: int = 0
    worker: str = ""
    job_id: str = ""
    """The job's id, where a worker could read it."""


def decode(raw: bytes) -> Element:
    """Read a list's or hash's value. Anything without a whole header is a bare body: nothing is refused here."""
    match = _HEADER.match(raw)
    if match is None:
        return Element(body=raw)
    origin, priority, deliveries, attempts, first, worker_len, id_len = match.groups()
    start = match.end()
    worker_end = start + int(worker_len)
    id_end = worker_end + int(id_len)
    if id_end > len(raw):
        return Element(body=raw)
    return Element(
        body=raw[id_end:],
        origin=origin.decode("ascii"),
        priority=_PRIORITY[priority],
        deliveries=int(deliveries),
        attempts=int(attempts),
        first_claimed_ms=int(first),
        worker=raw[start:worker_end].decode("utf-8", "replace"),
        job_id=raw[worker_end:id_end].decode("utf-8", "replace"),
    )


def encode(element: Element) -> bytes:
    """The inverse of :func:`decode`."""
    worker, job_id = element.worker.encode(), element.job_id.encode()
    header = (
        f"\x011|{element.origin}|{element.priority[0]}|{element.deliveries}|{element.attempts}"
        f"|{element.first_claimed_ms}|{len(worker)}|{len(job_id)}|"
    )
    return header.encode("ascii") + worker + job_id + element.body
