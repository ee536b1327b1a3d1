"""Calls to the API server: plain JSON through ``kubernetes.aio``, each with a timeout, none with retries of its own."""

from __future__ import annotations

import asyncio
import json
from typing import Any, TypeAlias
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client import ApiClient
from kubernetes.aio.config.config_exception import ConfigException

from llmpool_contract.labels import API_VERSION, MANAGER, PLURAL

from .login import LoginError, find_cluster
from .version import own_version

Object: TypeAlias = dict[str, Any]
"""A Kubernetes object as parsed JSON."""
Objects: TypeAlias = list[Object]

PAGE = 500
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
        self.troubles = 0
        """Calls that the server did not answer, or failed: whoever relies on watches should then look for himself."""

    async def close(self) -> None:
        """End the session's connections."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()  # type: ignore[no-untyped-call]

    async def get(self, path: str) -> Object:
        """Read one object."""
        return await self._call("GET", path)

    async def list(self, path: str, selector: str = "") -> tuple[Objects, str]:
        """Read a whole collection in pages. Gives the items and the resource version that they are of."""
        items: Objects = []
        query: dict[str, Any] = {"limit": PAGE}
        if selector:
            query["labelSelector"] = selector
        while True:
            page = await self._call("GET", path, query)
            items.extend(page.get("items") or [])
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

    async def merge(self, path: str, body: Object) -> Object:
        """JSON merge patch."""
        return await self._call("PATCH", path, {"fieldManager": MANAGER}, body, _MERGE)

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
            client = await self._session()
            status, text = await _exchange(client, method, path, query, body, content_type)
            if status == 401 and client is self._client:  # else somebody has logged in anew in the meantime
                await self.close()
            if status >= 400:
                raise _error(status, text)
        except APIError as error:
            self.troubles += error.passing
            raise
        try:
            parsed: Object = json.loads(text)
        except ValueError as error:
            raise APIError(0, "Unreadable", f"{method} {path}: the answer isn't JSON") from error
        return parsed

    async def _session(self) -> ApiClient:
        async with self._login:
            if self._client is None:
                try:
                    self._client = ApiClient(await find_cluster(self._kubeconfig))
                except (LoginError, OSError) as error:  # OSError: a certificate's file that isn't one
                    raise APIError(0, "NoLogin", str(error)) from error
                self._client.user_agent = f"{MANAGER}/{own_version()}"
            return self._client


async def _exchange(
    client: ApiClient, method: str, path: str, query: dict[str, Any] | None, body: Any, content_type: str
) -> tuple[int, bytes]:
    headers: dict[str, str] = {"Accept": "application/json", "Content-Type": content_type, **client.default_headers}
    url = f"{client.configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
    try:
        await client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        response = await client.call_api(method, url, headers, body, _request_timeout=_TIMEOUT)
        return response.status, await response.read()  # type: ignore[no-untyped-call]
    except (TimeoutError, aiohttp.ClientError, OSError, ConfigException) as error:
        raise APIError(0, "Unreachable", f"{method} {path}: {type(error).__name__}") from error


def _error(status: int, text: bytes) -> APIError:
    try:
        answer = json.loads(text)
        reason, message = answer.get("reason") or "", answer.get("message") or ""
    except (ValueError, AttributeError):
        reason, message = "", text[:200].decode("utf-8", "replace")
    return APIError(status, reason or f"HTTP{status}", message)
