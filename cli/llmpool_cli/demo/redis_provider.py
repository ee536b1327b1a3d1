"""The demo's Redis: REDIS_URL, else a private redis-server or valkey-server, else fakeredis in a child process.

Fakeredis is enough to run the demo, not to run the pool. It differs from Redis in what touches this project: no INFO,
CONFIG or MEMORY; in Lua neither `struct`, `cmsgpack`, `bit` nor `redis.sha1hex`; `cjson` fails at integers beyond 64
bits; a script that sets a global makes every later script fail.
"""

import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from llmpool_cli.demo.child import Child, ProviderError

START_SECONDS = 15.0
PING_SECONDS = 3.0
PROGRAMS = ("redis-server", "valkey-server")
# Redis doesn't watch its stdin, so a shell does: at end of file it ends the server. When the server ends by itself, so
# do watcher and shell, and nobody is left to signal a pid that may be another process by then.
KEEPER = """
exec 3<&0
"$@" </dev/null >&2 3<&- & server=$!
( cat <&3 >/dev/null; kill "$server" ) & watcher=$!
wait "$server"; status=$?
kill "$watcher" 2>/dev/null
exit "$status"
"""

RedisWish = Literal["auto", "fakeredis"]


@dataclass(frozen=True)
class RedisEnd:
    """A Redis that answers. `kind` is for people and never holds a password; `url` may."""

    url: str
    kind: str


@contextmanager
def open_redis(env: Mapping[str, str], wish: RedisWish = "auto") -> Iterator[RedisEnd]:
    """A Redis for the length of the block; what was started for it is stopped at the end, and its data is gone.

    `wish="fakeredis"` passes over REDIS_URL and PATH.

    ProviderError: a given REDIS_URL doesn't answer (another Redis in its place would surprise), or none could start.
    """
    given = env.get("REDIS_URL", "")
    if given and wish == "auto":
        yield RedisEnd(given, f"{check_given(given)}, given by REDIS_URL")
        return
    program = find_program(env) if wish == "auto" else None
    with tempfile.TemporaryDirectory(prefix="llmpool-redis-") as name:
        folder = Path(name).resolve()
        with private_fakeredis(folder) if program is None else private_server(program, folder) as end:
            yield end


def check_given(url: str) -> str:
    """What answers at `url`, such as `redis 7.0.15 at host:6379`; if nothing does, a ProviderError without password."""
    where = host_of(url)
    try:
        with closing(connect(url)) as client:
            client.ping()
            return f"{describe(client)} at {where}"
    except (redis.RedisError, OSError, ValueError) as error:
        raise ProviderError(
            f"REDIS_URL (at {where}) doesn't answer: {type(error).__name__}. "
            "Start that Redis, correct REDIS_URL (redis://[user:password@]host:port/db), "
            "or unset it to let the demo start its own."
        ) from None  # the cause's text may quote the URL, password included


def host_of(url: str) -> str:
    """Host and port of a Redis URL, or the path of its unix socket; never its user or password."""
    try:
        parts = urlsplit(url)
        port = parts.port or 6379
    except ValueError:
        return "an unreadable address"
    if parts.scheme not in {"redis", "rediss", "unix"}:
        return "an address that isn't redis://, rediss:// or unix://"
    return f"{parts.hostname}:{port}" if parts.hostname else parts.path


def connect(url: str) -> "redis.Redis":
    """A client that asks once and waits at most 3 s."""
    return redis.Redis.from_url(
        url, socket_timeout=PING_SECONDS, socket_connect_timeout=PING_SECONDS, retry=Retry(NoBackoff(), 0)
    )


def describe(client: "redis.Redis") -> str:
    """Name and version by INFO, such as `redis 7.0.15` or `valkey 8.1.1`; `redis` alone where INFO is refused."""
    try:
        info = client.info("server")
    except redis.ResponseError:
        return "redis"
    name = info.get("server_name", "redis")
    return f"{name} {info.get(f'{name}_version', info.get('redis_version', 'of unknown version'))}"


def find_program(env: Mapping[str, str]) -> str | None:
    """The first of redis-server and valkey-server on env's PATH."""
    found = (shutil.which(name, path=env.get("PATH", "")) for name in PROGRAMS)
    return next((path for path in found if path), None)


@contextmanager
def private_server(program: str, folder: Path) -> Iterator[RedisEnd]:
    """A Redis or Valkey of our own on a free loopback port, without persistence."""
    port = free_port()
    options = f"--bind 127.0.0.1 --port {port} --daemonize no --appendonly no --dir".split()
    argv = ["/bin/sh", "-c", KEEPER, "keeper", program, *options, str(folder), "--save", ""]
    name = Path(program).name
    with closing(Child(name, argv, folder)) as child:
        version = child.wait_until(lambda: version_if_ours(port, folder), START_SECONDS)
        yield RedisEnd(f"redis://127.0.0.1:{port}/0", f"{name} {version}, private")


def version_if_ours(port: int, folder: Path) -> str | None:
    """The version of the server on `port` once it answers, and is the one that works in `folder`."""
    try:
        with closing(connect(f"redis://127.0.0.1:{port}/0?protocol=2")) as client:
            if client.config_get("dir").get("dir") != str(folder):
                return None  # somebody else took the port between our look and our start
            return describe(client).rpartition(" ")[2]
    except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError):
        return None


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def private_fakeredis(folder: Path) -> Iterator[RedisEnd]:
    """Fakeredis in a child process of its own: it must not share an event loop or the GIL with what it serves."""
    argv = [sys.executable, "-m", "llmpool_cli.demo.fake_redis"]
    with closing(Child("fakeredis", argv, folder)) as child:
        port = child.wait_until(child.announced, START_SECONDS)["port"]
        yield RedisEnd(f"redis://127.0.0.1:{port}/0", "fakeredis")
