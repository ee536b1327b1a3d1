"""One address for every kind of Redis: a single server, one watched by Sentinels, or a cluster.

``redis://[user:password@]host[:port][/db]``, ``unix://path``,
``redis+sentinel://[user:password@]sentinel[:port],.../master[/db]``,
``redis+cluster://[user:password@]node[:port],...``; each but ``unix`` also with ``rediss`` for TLS. Options follow a
``?``: those of :data:`TLS_OPTIONS`, ``db``, and for Sentinels that want a login of their own ``sentinel_username`` and
``sentinel_password``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import SplitResult, parse_qs, urlencode, urlsplit

Mode = Literal["standalone", "sentinel", "cluster"]

SCHEMES: Mapping[str, Mode] = MappingProxyType(
    {
        "redis": "standalone",
        "rediss": "standalone",
        "unix": "standalone",
        "redis+sentinel": "sentinel",
        "rediss+sentinel": "sentinel",
        "redis+cluster": "cluster",
        "rediss+cluster": "cluster",
    }
)
TLS_OPTIONS = frozenset({"ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
SENTINEL_OPTIONS = frozenset({"sentinel_username", "sentinel_password"})
_PORT = 6379
_SENTINEL_PORT = 26379
_NOT_AN_ADDRESS = "not an address: encode special characters of a password (%2F for /)"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a Redis is and how to get in. ``str`` of it holds no secret."""

    mode: Mode
    nodes: tuple[tuple[str, int], ...]
    """(host, port) of the server, of the Sentinels, or of some nodes of the cluster. None for a unix socket."""
    master: str = ""
    """The name that the Sentinels know the master by."""
    tls: bool = False
    """Also between us and the Sentinels."""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """redis-py's arguments for each connection: ``db``, ``username``, ``password``, ``path``, ``ssl_*``."""
    sentinel_login: Mapping[str, str] = field(default_factory=dict, repr=False)
    """``username`` and ``password`` at the Sentinels, where they ask for one."""

    def __str__(self) -> str:
        if "path" in self.options:
            return str(self.options["path"])
        hosts = ",".join(f"{f'[{host}]' if ':' in host else host}:{port}" for host, port in self.nodes)
        match self.mode:
            case "cluster":
                return hosts
            case "sentinel":
                return f"{hosts}/{self.master}/{self.options.get('db', 0)}"
        return f"{hosts}/{self.options.get('db', 0)}"

    def with_options(self, **options: Any) -> RedisAddress:
        """The same with these arguments for each connection; None leaves one as it is."""
        return replace(self, options={**self.options, **{k: v for k, v in options.items() if v is not None}})

    def with_sentinel_login(self, **login: str | None) -> RedisAddress:
        """The same with this ``username`` and ``password`` at the Sentinels; None leaves one as it is."""
        return replace(self, sentinel_login={**self.sentinel_login, **{k: v for k, v in login.items() if v}})


def parse_redis_url(url: str) -> RedisAddress:
    """Read an address.

    Raises:
        ValueError: the reason repeats nothing of the address, which may hold a password, also in a wrong place.
    """
    try:
        parts = urlsplit(url)
        given = parse_qs(parts.query, keep_blank_values=True)
    except ValueError:
        raise ValueError(_NOT_AN_ADDRESS) from None
    mode = SCHEMES.get(parts.scheme)
    if mode is None or "://" not in url:
        raise ValueError(f"wanted one of {', '.join(f'{scheme}://' for scheme in SCHEMES)} at the beginning")
    _check_options(parts.scheme, mode, given.keys())
    if parts.scheme == "unix":
        return RedisAddress(mode, (), options=_connection_options(url))
    login, at, hosts = parts.netloc.rpartition("@")
    port = _SENTINEL_PORT if mode == "sentinel" else _PORT
    nodes = tuple(_node(host, port) for host in hosts.split(","))
    if mode == "standalone" and len(nodes) > 1:
        raise ValueError("several hosts: wanted +sentinel or +cluster after redis or rediss")
    master, db = _path(parts, mode)
    query = urlencode({name: values[0] for name, values in given.items() if name not in SENTINEL_OPTIONS})
    tls = parts.scheme.startswith("rediss")
    options = _connection_options(f"redis://{login}{at}host/{db}?{query}")
    if mode == "cluster" and options.get("db"):
        raise ValueError("a database other than 0: wanted none, a cluster has only that one")
    sentinel = {name.removeprefix("sentinel_"): given[name][0] for name in SENTINEL_OPTIONS & given.keys()}
    return RedisAddress(mode, nodes, master, tls, options, sentinel)


def _check_options(scheme: str, mode: Mode, given: Any) -> None:
    allowed = {"db"}
    if scheme.startswith("rediss"):
        allowed |= TLS_OPTIONS
    elif wrong := sorted(given & TLS_OPTIONS):
        raise ValueError(f"option {', '.join(wrong)}: wanted rediss at the beginning, which is TLS")
    if mode == "sentinel":
        allowed |= SENTINEL_OPTIONS
    if unknown := sorted(given - allowed):
        raise ValueError(f"option {', '.join(unknown)}: allowed are {', '.join(sorted(allowed))}")


def _node(text: str, default_port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(_NOT_AN_ADDRESS) from None
    if not host or port == 0 or "@" in text:
        raise ValueError("no host in it")
    return host, default_port if port is None else port


def _path(parts: SplitResult, mode: Mode) -> tuple[str, str]:
    """(name of the master, database as text), both possibly empty."""
    names = [name for name in parts.path.split("/") if name]
    master = ""
    if mode == "sentinel":
        if not names:
            raise ValueError(
                "no master's name: wanted it after the Sentinels, as in redis+sentinel://host:26379/master"
            )
        master = names.pop(0)
    if len(names) > 1 or (names and not names[0].isdecimal()):
        raise ValueError("a path that is no database: wanted a whole number")
    return master, names[0] if names else ""


def _connection_options(url: str) -> dict[str, Any]:
    try:
        from redis.asyncio.connection import parse_url  # slow to import, and a pool's spec needs no connection

        options = dict(parse_url(url))
    except ValueError:
        raise ValueError("an option has a value that can't be used") from None
    for ours in ("connection_class", "host", "port"):
        options.pop(ours, None)
    return options
