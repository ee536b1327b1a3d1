"""Which addresses the operator connects to for somebody who may create pools. Pure but for the resolver."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp.abc import AbstractResolver, ResolveResult

_METADATA = frozenset(
    ip_address(text) for text in ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")
)
"""Clouds' own services that are no link-local addresses: they give machines their credentials."""
_NAT64 = ip_network("64:ff9b::/96")
_THREADS = 4
"""Of our own: a name server that is silent must not hold up the names of others."""


class ForbiddenAddress(OSError):
    """A host that the operator doesn't connect to."""


def is_forbidden(address: IPv4Address | IPv6Address, *, allow_loopback: bool) -> bool:
    """Link-local, this machine itself, addresses of many, of nobody, and clouds' metadata services."""
    if isinstance(address, IPv6Address) and (inner := _inner(address)) is not None:
        return is_forbidden(inner, allow_loopback=allow_loopback)
    if address.is_loopback:
        return not allow_loopback
    return (
        address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or (address.is_reserved and isinstance(address, IPv4Address))
        or address in _METADATA
    )


def _inner(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


class GuardedResolver(AbstractResolver):
    """Gives only addresses that aren't forbidden: what was looked at is what is connected to."""

    def __init__(self, *, allow_loopback: bool) -> None:
        self._allow_loopback = allow_loopback
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="prometheus-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises ForbiddenAddress where no address remains, OSError where there is none."""
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        )
        results: list[ResolveResult] = []
        for kind, _, protocol, _, where in found:
            text = str(where[0])
            if not is_forbidden(ip_address(text.partition("%")[0]), allow_loopback=self._allow_loopback):
                results.append(
                    ResolveResult(
                        hostname=host, host=text, port=port, family=kind, proto=protocol, flags=socket.AI_NUMERICHOST
                    )
                )
        if not results:
            raise ForbiddenAddress
        return results

    def check_literal(self, host: str) -> None:
        """A host that is an address itself is connected to without being resolved. Raises ForbiddenAddress."""
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return
        if is_forbidden(address, allow_loopback=self._allow_loopback):
            raise ForbiddenAddress

    async def close(self) -> None:
        """No more names."""
        self._threads.shutdown(wait=False, cancel_futures=True)
