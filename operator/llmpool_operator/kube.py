"""Calls to the API server: plain JSON through ``kubernetes.aio``, each with a timeout.

None is repeated, but for one that was turned away with the time of the next try (429, Retry-After): it had no effect.
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, TypeAlias
from urllib.parse import urlencode
from urllib.request import getproxies

import aiohttp
from kubernetes.aio.client import ApiClient
from kubernetes.aio.config.config_exception import ConfigException

from llmpool_contract.labels import API_VERSION, MANAGER, PLURAL

from .login import LoginError, find_cluster
from .version import own_version

Object: TypeAlias = dict[str, Any]
"""A Kubernetes object as parsed JSON."""
Objects: TypeAlias = list[Object]

NO_LOGIN = "NoLogin"
PAGE = 250
"""Objects of one page of a list: what is parsed at once, with the loop waiting."""
_CONNECTIONS = 100
"""More than all that is ever under way at once: here, a call would wait with its timeout running."""
_KEPT = 50.0
"""Seconds; below what load balancers before an API server allow."""
SCALES_AT_ONCE = 32
"""Sizes that are asked for at the same time: a burst of pools goes out together, within the API server's patience."""
MANIFESTS_AT_ONCE = 16
"""Deployments that are made or applied at the same time: a first start with many pools must be no storm."""
_TRIES = 5
"""Of a call that is turned away with a time to come back."""
_LONGEST_WAIT = 10.0
"""Seconds to the next try, whatever the API server says."""
_TIMEOUT = aiohttp.ClientTimeout(total=10, connect=3)
_MERGE = "application/merge-patch+json"
_APPLY = "application/apply-patch+yaml"
_JSON_PATCH = "application/json-patch+json"


class APIError(Exception):
    """The API server refused, failed or was not reached (status 0). ``reason`` is its own word for it."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message.strip()}" if status else f"{reason}: {message.strip()}")
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def passing(self) -> bool:
        """Whether waiting may help: nobody there, too busy, or failing."""
        return self.status in (0, 408, 429) or self.status >= 500

    @property
    def unconfigured(self) -> bool:
        """Whether it was never known whom to ask: that takes somebody's doing, so trying often is of no use."""
        return self.reason == NO_LOGIN


def collection(namespace: str | None, plural: str, api: str = API_VERSION) -> str:
    """The path of a namespaced kind; namespace None: of all namespaces together."""
    root = "/api/v1" if api == "v1" else f"/apis/{api}"
    return f"{root}/{plural}" if namespace is None else f"{root}/namespaces/{namespace}/{plural}"


def pools_path(namespace: str | None) -> str:
    """Where pools are listed."""
    return collection(namespace, PLURAL)


def pool_path(namespace: str, name: str) -> str:
    """One pool."""
    return f"{pools_path(namespace)}/{name}"


def deployment_path(namespace: str, name: str) -> str:
    """One Deployment."""
    return f"{collection(namespace, 'deployments', 'apps/v1')}/{name}"


class KubeAPI:
    """A session with the API server. Credentials are looked up at the first call and again after a 401."""

    def __init__(self, kubeconfig: str = "") -> None:
        self._kubeconfig = kubeconfig
        self._client: ApiClient | None = None
        self._login = asyncio.Lock()
        self.on_call: Callable[[str, str, int], None] = _nobody_counts
        """Told of each call that has ended: verb, resource with its subresource, and the answer's code or 0."""
        self._scales = asyncio.Semaphore(SCALES_AT_ONCE)
        self._manifests = asyncio.Semaphore(MANIFESTS_AT_ONCE)
        self.may_write: Callable[[], bool] = lambda: True
        """Asked before each write is sent: a leader that stood still may have been replaced without noticing."""
        self._retired: dict[asyncio.Task[None], ApiClient] = {}
        self._scaling = 0
        self.troubles = 0
        """Calls that the server did not answer, or failed: whoever relies on watches should then look for himself."""

    def scaling(self) -> bool:
        """Whether a size is being asked for, or waits to be."""
        return self._scaling > 0

    @property
    def busy(self) -> bool:
        """Whether a manifest would have to wait for others: what can do without one should."""
        return self._manifests.locked()

    async def close(self) -> None:
        """End the session's connections."""
        for task, retired in list(self._retired.items()):
            task.cancel()
            await retired.close()  # type: ignore[no-untyped-call]
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()  # type: ignore[no-untyped-call]

    def _retire(self, client: ApiClient) -> None:
        """Log in anew; the old session ends once the calls that it carries have."""
        self._client = None

        async def end() -> None:
            await asyncio.sleep(_TIMEOUT.total or 0)
            await client.close()  # type: ignore[no-untyped-call]

        task = asyncio.create_task(end(), name="end session")
        self._retired[task] = client
        task.add_done_callback(lambda task: self._retired.pop(task, None))

    async def get(self, path: str) -> Object:
        """Read one object."""
        return await self._call("GET", path)

    async def list(
        self, path: str, selector: str = "", keep: Callable[[Object], Any] = lambda obj: obj
    ) -> tuple[list[Any], str]:
        """Read a whole collection in pages. Gives what ``keep`` makes of the items, and the version they are of."""
        items: list[Any] = []
        query: dict[str, Any] = {"limit": PAGE}
        if selector:
            query["labelSelector"] = selector
        while True:
            page = await self._call("GET", path, query)
            items.extend(keep(obj) for obj in page.get("items") or ())
            metadata = page["metadata"]
            if not metadata.get("continue"):
                return items, metadata["resourceVersion"]
            query["continue"] = metadata["continue"]

    async def create(self, path: str, body: Object) -> Object:
        """POST a new object into a collection."""
        return await self._call("POST", path, {"fieldManager": MANAGER}, body)

    async def apply(self, path: str, body: Object) -> Object:
        """Server-side apply, winning conflicts: what the body names is this operator's, the rest is left alone."""
        return await self._call("PATCH", path, {"fieldManager": MANAGER, "force": "true"}, body, _APPLY)

    async def merge(self, path: str, body: Object, *, manager: str = MANAGER) -> Object:
        """JSON merge patch. ``manager``: whose change it is, as the object's managedFields will have it."""
        return await self._call("PATCH", path, {"fieldManager": manager}, body, _MERGE)

    async def json_patch(self, path: str, steps: Objects) -> Object:
        """JSON patch (RFC 6902)."""
        return await self._call("PATCH", path, {"fieldManager": MANAGER}, steps, _JSON_PATCH)

    async def delete(self, path: str) -> Object:
        """Delete one object."""
        return await self._call("DELETE", path)

    async def _call(
        self,
        method: str,
        path: str,
        query: dict[str, Any] | None = None,
        body: Object | Objects | None = None,
        content_type: str = "application/json",
    ) -> Object:
        try:
            async with self._lane(method, path):
                status, text = await self._try(method, path, query, body, content_type)
            if status >= 400:
                raise _error(status, text)
        except APIError as error:
            self.troubles += error.status in (0, 503) and error.reason != "NotLeading"  # not a webhook's 500
            raise
        try:
            parsed: Object = json.loads(text)
        except ValueError as error:
            raise APIError(0, "Unreadable", f"{method} {path}: the answer isn't JSON") from error
        return parsed

    async def _counted(
        self, client: ApiClient, method: str, path: str, query: Any, *body: Any
    ) -> tuple[int, bytes, float | None]:
        status = 0
        try:
            status, text, wait = await _exchange(client, method, path, query, *body)
        finally:
            self.on_call("list" if query and "limit" in query else _VERBS[method], _resource(path), status)
        return status, text, wait

    def _lane(self, method: str, path: str) -> AbstractAsyncContextManager[None]:
        """Where a call waits for its turn. Not in the connection pool: there the call's timeout would run already."""
        if method == "GET":
            return nullcontext()
        if path.endswith("/scale"):
            return self._to_scale()
        return self._manifests if "/deployments" in path else nullcontext()

    @asynccontextmanager
    async def _to_scale(self) -> AsyncIterator[None]:
        self._scaling += 1
        try:
            async with self._scales:
                yield
        finally:
            self._scaling -= 1

    async def _try(
        self, method: str, path: str, query: dict[str, Any] | None, body: Any, content_type: str
    ) -> tuple[int, bytes]:
        """Status and text of the answer; again, where the API server turns the call away and says when to come back."""
        for left in reversed(range(_TRIES)):
            client = await self._session()
            if method != "GET" and not self.may_write():
                raise APIError(0, "NotLeading", f"{method} {path}: another operator may lead by now")
            status, text, wait = await self._counted(client, method, path, query, body, content_type)
            if status == 401 and client is self._client:  # else somebody has logged in anew in the meantime
                self._retire(client)
            if status != 429 or wait is None or not left:
                break
            # Spread, so that all that were turned away together don't come back together.
            await asyncio.sleep(min(wait, _LONGEST_WAIT) * (1 + random.random() / 4))
        return status, text

    async def _session(self) -> ApiClient:
        async with self._login:
            if self._client is None:
                try:
                    self._client = ApiClient(await find_cluster(self._kubeconfig))
                except (LoginError, OSError) as error:  # OSError: a certificate's file that isn't one
                    raise APIError(0, NO_LOGIN, str(error)) from error
                self._client.rest_client.pool_manager = _connections(self._client.rest_client.ssl_context)
                self._client.user_agent = f"{MANAGER}/{own_version()}"
            return self._client


_VERBS = {"GET": "get", "POST": "create", "PATCH": "patch", "DELETE": "delete"}


def _nobody_counts(_verb: str, _resource: str, _code: int) -> None:
    """Where no metrics are."""


def _resource(path: str) -> str:
    """``/apis/apps/v1/namespaces/x/deployments/y/scale`` -> ``deployments/scale``: few names, whatever is called."""
    parts = path.partition("?")[0].strip("/").split("/")
    parts = parts[2 if parts[0] == "api" else 3 :]
    if parts[:1] == ["namespaces"] and len(parts) > 2:
        parts = parts[2:]
    return "/".join((*parts[:1], *parts[2:3]))


def _connections(tls: ssl.SSLContext) -> aiohttp.ClientSession:
    """Connections that outlast the pause between two bursts: a handshake costs both sides as much as a call."""
    connector = aiohttp.TCPConnector(limit=_CONNECTIONS, ssl=tls, keepalive_timeout=_KEPT)
    # With trust_env each call looks for proxies anew, and for a .netrc in a thread.
    return aiohttp.ClientSession(connector=connector, trust_env=bool(getproxies()))


async def _exchange(
    client: ApiClient, method: str, path: str, query: dict[str, Any] | None, body: Any, content_type: str
) -> tuple[int, bytes, float | None]:
    """Status, text, and the seconds that the server asks to wait."""
    headers: dict[str, str] = {"Accept": "application/json", "Content-Type": content_type, **client.default_headers}
    url = f"{client.configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
    try:
        await client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        response = await client.call_api(method, url, headers, body, _request_timeout=_TIMEOUT)
        text = await response.read()  # type: ignore[no-untyped-call]
        return response.status, text, _seconds(response.headers.get("Retry-After"))
    except (TimeoutError, aiohttp.ClientError, OSError, ConfigException) as error:
        raise APIError(0, "Unreachable", f"{method} {path}: {type(error).__name__}") from error


def _seconds(given: str | None) -> float | None:
    """``Retry-After`` as the API server writes it: whole seconds. A date or anything else counts as none."""
    return float(given) if given is not None and given.isascii() and given.isdigit() else None


def _error(status: int, text: bytes) -> APIError:
    try:
        answer = json.loads(text)
        reason, message = answer.get("reason") or "", answer.get("message") or ""
    except (ValueError, AttributeError):
        reason, message = "", text[:200].decode("utf-8", "replace")
    return APIError(status, reason or f"HTTP{status}", message)
