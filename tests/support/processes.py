"""Child processes of the tests: started with a log file, ended by pid, never by name."""

import random
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

LOG_TAIL_LINES = 30
POLL_S = 0.03
# Below the ephemeral ranges of Linux (32768) and macOS (49152), so that no outgoing connection takes a port between
# the choice and the child's own bind.
FREE_PORTS = range(20000, 32000)


class ProcessError(RuntimeError):
    """A child process did not start, or ended when it should run."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on."""
    for port in random.sample(FREE_PORTS, 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ProcessError(f"no free port found in {FREE_PORTS.start}-{FREE_PORTS.stop - 1} after 200 tries")


class Child:
    """One child process. `log` holds its stdout and stderr; a restart appends."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self._env = None if env is None else dict(env)
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ProcessError(f"{self.name} was never started")
        return self._process.pid

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        if self.running():
            raise ProcessError(f"{self.name} already runs (pid {self.pid})")
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C reaches pytest alone, which then stops its children in order.
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
            )

    def stop(self, grace_s: float = 5.0) -> int | None:
        """SIGTERM, then SIGKILL after `grace_s`. Returns the exit status, None if it never ran."""
        if self._process is None:
            return None
        if self.running():
            self._process.terminate()
        try:
            return self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int | None:
        """SIGKILL, and wait for the end."""
        if self._process is None:
            return None
        if self.running():
            self._process.kill()
        return self._process.wait()

    def tail(self) -> str:
        """The end of the log, for an error message."""
        if not self.log.exists():
            return f"{self.name}: no log"
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return f"--- {self.name}: end of {self.log}\n" + "\n".join(lines)

    def wait_until(self, probe: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Poll `probe` until it says True.

        Where that doesn't come true (the deadline, the process's own end, an interruption), the process is ended;
        ProcessError has the log's tail.
        """
        try:
            self._poll(probe, timeout_s, what)
        except BaseException:
            self.kill()
            raise

    def _poll(self, probe: Callable[[], bool], timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not probe():
            if not self.running():
                status = None if self._process is None else self._process.returncode
                raise ProcessError(f"{self.name} ended with status {status} before {what}\n{self.tail()}")
            if time.monotonic() > deadline:
                raise ProcessError(f"{self.name}: no sign of {what} within {timeout_s:g} s\n{self.tail()}")
            time.sleep(POLL_S)
