"""Child processes of the demo: each ends when its stdin closes, so none outlives a demo that was killed."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.02
STOP_SECONDS = 10.0
TAIL_LINES = 12


class ProviderError(RuntimeError):
    """Redis or the model can't be had; the message says what was tried and what to do."""


class Child:
    """One process with its own process group, whose output goes to `<name>.out` and `<name>.log` in `folder`.

    Its own group, because Ctrl-C in a terminal reaches the whole foreground group: Redis and the model must still be
    there while the workers drain.
    """

    def __init__(self, name: str, argv: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.out = folder / f"{name}.out"
        self.log = folder / f"{name}.log"
        with self.out.open("wb") as out, self.log.open("wb") as log:
            self._process = subprocess.Popen(
                list(argv), stdin=subprocess.PIPE, stdout=out, stderr=log, env=env, start_new_session=True
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until(self, ready: Callable[[], T | None], seconds: float) -> T:
        """The first answer of `ready` that isn't None, else a ProviderError with the last log lines."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            answer = ready()
            if answer is not None:
                return answer
            status = self._process.poll()
            if status is not None:
                raise ProviderError(f"{self.name} ended with status {status} before it was ready:\n{self.tail()}")
            time.sleep(POLL_SECONDS)
        raise ProviderError(f"{self.name} wasn't ready within {seconds:g} s:\n{self.tail()}")

    def announced(self) -> dict[str, Any] | None:
        """The JSON object a child prints as its first line once it serves, or None as long as the line isn't whole."""
        head, newline, _ = self.out.read_bytes().partition(b"\n")
        return json.loads(head) if newline else None

    def tail(self, lines: int = TAIL_LINES) -> str:
        """The last lines it wrote to stderr."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def close(self) -> None:
        """Ends it: end of file on its stdin first, a kill of its own group if that isn't heard in 10 s."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, 9)
            self._process.wait()
