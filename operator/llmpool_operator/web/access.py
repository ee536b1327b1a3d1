"""Who may read the page, and what a browser may do with it. Pure.

There is no login. What keeps others out is where they come from: by default only this machine itself, which is also
where ``kubectl port-forward`` comes from, so that a right of Kubernetes (``pods/portforward``) decides.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from typing import Literal, TypeAlias

Access: TypeAlias = Literal["local", "all", "off"]
_THIS_MACHINE = frozenset({"127.0.0.1", "::1"})
"""Not all of 127/8: sidecar proxies hand on what comes from elsewhere from addresses of their own in there."""
_INTERNAL = (".localhost", ".svc", ".svc.cluster.local")
"""Endings of names that nobody can register: a page from outside can't be served under one (DNS rebinding)."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_ELSEWHERE = (
    "This page answers its own machine alone. From elsewhere: kubectl port-forward to the operator's pod, or set "
    "WEB_ACCESS=all, which lets everybody read it who reaches this port.\n"
)


def refusal(headers: Mapping[str, str], peer: str | None, access: Access, hosts: Collection[str]) -> str | None:
    """Why a request is turned away. None: it isn't. ``hosts``: further names that the page may have."""
    if access == "local" and peer not in _THIS_MACHINE:
        return _ELSEWHERE
    host = _name(headers.get("Host", ""))
    if not _ours(host, hosts):
        return "The address that you came by isn't known to be this operator's: name its host in WEB_HOSTS.\n"
    if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and headers.get("Sec-Fetch-Mode") in (
        "cors",
        "no-cors",
    ):
        return "Pages of other sites may not ask this one.\n"
    return None


def _name(host: str) -> str:
    """``name:port`` or ``[address]:port`` without its port, in small letters."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower().rstrip(".")


def _ours(host: str, hosts: Collection[str]) -> bool:
    if host in ("", "localhost"):
        return True  # none at all is HTTP/1.0, which no browser speaks
    if host in hosts or host.endswith(_INTERNAL):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
