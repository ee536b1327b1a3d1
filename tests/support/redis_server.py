"""A real redis-server of the tests: its own folder, its own port or socket, killed and restarted at will."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.processes import Child, ProcessError, free_port

START_TIMEOUT_S = 10.0
OLDEST = (6, 2)  # BLMOVE


def redis_server_program() -> str:
    """The path of redis-server, or of valkey-server where only that is installed."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            _check_version(found)
            return found
    raise ProcessError(
        "redis-server isn't on PATH: `make test` installs it where it can; "
        "else `sudo apt-get install redis-server` (Debian, Ubuntu) or `brew install redis` (macOS)"
    )


def _check_version(program: str) -> None:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v=(\d+)\.(\d+)", said)
    if found is None:
        raise ProcessError(f"{program} --version said {said.strip()!r}: no version in it")
    if (int(found[1]), int(found[2])) < OLDEST:
        raise ProcessError(f"{program} is {found[1]}.{found[2]}: the project needs >= {OLDEST[0]}.{OLDEST[1]} (BLMOVE)")


class RedisServer:
    """A redis-server on a free loopback port, or on a unix socket. Data survives `kill` and `restart`.

    `appendonly` writes each command to disk before the next is served (`appendfsync always`), so that a kill -9 loses
    nothing that was acknowledged; without it a restart begins empty. `config` is any further setting by its name.
    """

    def __init__(
        self, *, appendonly: bool = False, unix_socket: bool = False, config: Mapping[str, str] | None = None
    ) -> None:
        self._appendonly = appendonly
        self._unix_socket = unix_socket
        self._config = dict(config or {})
        self._child: Child | None = None
        self._folder: Path | None = None
        self.port = 0

    @property
    def url(self) -> str:
        if self._unix_socket:
            return f"unix://{self.folder / 'redis.sock'}"
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def folder(self) -> Path:
        if self._folder is None:
            raise ProcessError("redis-server was not started")
        return self._folder

    @property
    def pid(self) -> int:
        return self._started().pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the first time; `restart` brings back the same port and data."""
        program = redis_server_program()
        self._folder = Path(tempfile.mkdtemp(prefix="llmpool-redis-"))
        self.port = 0 if self._unix_socket else free_port()
        self._child = Child("redis-server", [program, *self._arguments()], self._folder / "redis.log")
        self.restart()

    def restart(self) -> None:
        """Start again after `kill` or `halt`, on the same port and data; returns when it answers."""
        child = self._started()
        child.start()
        child.wait_until(self._answers, START_TIMEOUT_S, "an answer to PING")

    def halt(self) -> None:
        """End it in good order (SIGTERM: it saves what it is told to save); data and port stay."""
        self._started().stop()

    def kill(self) -> None:
        """kill -9; data on disk and port stay."""
        self._started().kill()

    def stop(self) -> None:
        """End it and remove its folder."""
        if self._child is not None:
            self._child.stop()
            self._child = None
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    def flush(self) -> None:
        """Remove all keys and all cached scripts."""
        with self.client() as client:
            client.flushall()
            client.script_flush()

    def client(self) -> redis.Redis:
        """A plain synchronous client that retries nothing."""
        return redis.Redis.from_url(self.url, decode_responses=True, socket_timeout=5, retry=Retry(NoBackoff(), 0))

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:  # not listening yet, or still loading its data
            return False

    def _started(self) -> Child:
        if self._child is None:
            raise ProcessError("redis-server was not started")
        return self._child

    def _arguments(self) -> list[str]:
        settings = {
            "dir": str(self.folder),
            "bind": "127.0.0.1",
            "port": str(self.port),
            "save": "",
            "appendonly": "yes" if self._appendonly else "no",
            "appendfsync": "always",
            **({"unixsocket": str(self.folder / "redis.sock")} if self._unix_socket else {}),
            **self._config,
        }
        return [part for name, value in settings.items() for part in (f"--{name}", value)]
