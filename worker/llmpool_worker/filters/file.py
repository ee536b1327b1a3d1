"""The rules file on disk: read at the start, looked at again every few seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import structlog

from .rules import Rules, RulesError

log = structlog.get_logger()

MAX_FILE_BYTES = 1_048_576

Stamp = tuple[int, int, int]


class RulesFile:
    """The rules that are in force. A change that can't be used leaves them as they are."""

    def __init__(self, path: Path, parse: Callable[[str, str], Rules]) -> None:
        """``parse``: (text, the file's name) to rules. Raises RulesError: a worker doesn't start without its rules."""
        self._path, self._parse = path, parse
        self._seen = self._stamp()
        self.now = self._load()

    def turn(self) -> None:
        """Read the file again if it is another than before. Blocks: for a thread."""
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self.now = self._load()
        except RulesError as error:
            log.error("filter_rules_refused", error=str(error))  # noqa: TRY400 - a trace says nothing here
        else:
            log.info("filter_rules_loaded", rules=len(self.now.plain) + len(self.now.analyzed))

    def _stamp(self) -> Stamp | None:
        """What changes with the file: a ConfigMap's volume swaps a link, which gives another inode. None: no file."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _load(self) -> Rules:
        try:
            with self._path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
            if len(data) > MAX_FILE_BYTES:
                raise RulesError(f"{self._path}: longer than {MAX_FILE_BYTES} bytes")
            text = data.decode()
        except OSError as error:
            raise RulesError(f"{self._path}: {error.strerror or error}") from None
        except UnicodeDecodeError:
            raise RulesError(f"{self._path}: not UTF-8") from None
        return self._parse(text, str(self._path))
