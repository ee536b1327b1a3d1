"""Reading a batch's file, line by line: it may be larger than one wants in memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from llmpool_contract import BadJob
from llmpool_contract.parsing import strict_json

from .errors import MOST_FAULTS, BadBatch
from .requests import TYPE_OF, Endpoint
from .values import kind_of

MAX_REQUESTS = 50_000
MAX_FILE_BYTES = 200 * 1_048_576
"""OpenAI's limits."""
MAX_LINE_BYTES = 8 * 1_048_576
"""Far more than a job may have: a longer line isn't even read to its end to find out whose it is."""
MAX_CUSTOM_ID = 512
"""Characters."""

_FIELDS = frozenset({"custom_id", "method", "url", "body"})
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Request:
    """One line."""

    line: int
    """Counted from 1."""
    custom_id: str
    url: Endpoint
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BatchFile:
    """A file whose lines are all requests to one endpoint, each with a custom id of its own."""

    path: Path
    endpoint: Endpoint
    digest: str
    """SHA-256 of the lines that aren't blank, hex."""
    total: int
    """Requests."""
    stamp: tuple[int, int]
    """Size and time of change, by which a later reading knows the file again."""

    @property
    def name(self) -> str:
        """The file's own, as text that can be kept."""
        return self.path.name.encode("utf-8", "replace").decode()

    def requests(self, skip: int = 0) -> Iterator[Request]:
        """The requests after the first ``skip``.

        Raises:
            BadBatch: the file has changed since it was examined.
        """
        with self.path.open("rb") as opened:
            for place, (number, raw) in enumerate(_lines(opened, self.path.name)):
                if _stamp(opened) != self.stamp:
                    raise BadBatch(self.path.name, ["the file was changed while it was read"])
                if place >= skip:
                    yield _request(number, raw)


class _BadLine(Exception):
    """What is wrong with one line."""


def examine(path: str | os.PathLike[str]) -> BatchFile:
    """Read a whole file once, to know that it is a batch before anything of it is sent. Bodies aren't judged here.

    Raises:
        BadBatch: with the lines that are no requests.
        OSError: the file can't be read.
    """
    path = Path(path)
    findings = _Findings()
    digest = hashlib.sha256()
    with path.open("rb") as opened:
        stamp = _stamp(opened)
        if not path.is_file():  # a pipe can be read only once
            raise BadBatch(path.name, ["not a file"])
        if stamp[0] > MAX_FILE_BYTES:
            raise BadBatch(path.name, [f"{stamp[0]} bytes, allowed are {MAX_FILE_BYTES}"])
        for number, raw in _lines(opened, path.name):
            digest.update(raw)
            findings.take(number, raw)
            if len(findings.faults) >= MOST_FAULTS or findings.total > MAX_REQUESTS:
                break
    if findings.total > MAX_REQUESTS:
        findings.faults.append(f"more than {MAX_REQUESTS} requests")
    elif not findings.total and not findings.faults:
        findings.faults.append("no request in it")
    if findings.faults or findings.endpoint is None:
        raise BadBatch(path.name, findings.faults)
    return BatchFile(path, findings.endpoint, digest.hexdigest(), findings.total, stamp)


class _Findings:
    """What the lines so far have in common, and what is wrong with them."""

    def __init__(self) -> None:
        self.total = 0
        self.endpoint: Endpoint | None = None
        self.faults: list[str] = []
        self._first_line = 0
        self._seen: dict[bytes, int] = {}

    def take(self, number: int, raw: bytes) -> None:
        self.total += 1
        try:
            self._take(_request(number, raw))
        except _BadLine as fault:
            self.faults.append(f"line {number}: {fault}")

    def _take(self, request: Request) -> None:
        # 16 bytes each, however long the custom ids are.
        key = hashlib.blake2b(request.custom_id.encode(), digest_size=16).digest()
        if (earlier := self._seen.setdefault(key, request.line)) != request.line:
            raise _BadLine(f"custom_id: the same as in line {earlier}")
        if self.endpoint is None:
            self.endpoint, self._first_line = request.url, request.line
        if request.url != self.endpoint:
            raise _BadLine(f"url: {request.url}, but line {self._first_line} has {self.endpoint}; a batch has one")


def _lines(opened: IO[bytes], name: str) -> Iterator[tuple[int, bytes]]:
    """Numbered lines that aren't blank."""
    number = 0
    while raw := opened.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(raw) > MAX_LINE_BYTES:
            raise BadBatch(name, [f"line {number}: longer than {MAX_LINE_BYTES} bytes"])
        if number == 1:
            raw = raw.removeprefix(_BOM)
        if raw.strip():
            yield number, raw


def _request(number: int, raw: bytes) -> Request:
    try:
        value = strict_json(raw)
    except BadJob as error:
        raise _BadLine(error.reason.removeprefix("job: ")) from None
    if not isinstance(value, dict):
        raise _BadLine(f"wanted a JSON object, got {kind_of(value)}")
    if stray := sorted(value.keys() - _FIELDS):
        raise _BadLine(f"{ascii(stray[0])[1:-1][:64]}: unknown field, allowed are {', '.join(sorted(_FIELDS))}")
    if value.get("method") != "POST":
        raise _BadLine('method: allowed is "POST"')
    url = value.get("url")
    if not isinstance(url, str) or url not in TYPE_OF:
        raise _BadLine(f"url: got {ascii(url)[:60]}, allowed are {', '.join(TYPE_OF)}")
    if not isinstance(body := value.get("body"), dict):
        raise _BadLine(f"body: wanted an object, got {kind_of(body)}")
    return Request(number, _custom_id(value), cast("Endpoint", url), body)


def _custom_id(value: dict[str, Any]) -> str:
    custom_id = value.get("custom_id")
    if not isinstance(custom_id, str):
        raise _BadLine(f"custom_id: wanted a text, got {kind_of(custom_id)}")
    if not 1 <= len(custom_id) <= MAX_CUSTOM_ID:
        raise _BadLine(f"custom_id: {len(custom_id)} characters, allowed are 1 to {MAX_CUSTOM_ID}")
    return custom_id


def _stamp(opened: IO[bytes]) -> tuple[int, int]:
    found = os.fstat(opened.fileno())
    return found.st_size, found.st_mtime_ns
