"""What the commands that talk to a cluster share: its options, a session, and errors as one line."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from kubernetes.aio.config import list_kube_config_contexts
from kubernetes.aio.config.config_exception import ConfigException

from llmpool_contract.labels import KIND, PLURAL
from llmpool_operator.kube import APIError, KubeAPI, Object, pool_path

from .lines import Kubeconfig as Kubeconfig
from .lines import Namespace as Namespace
from .session import fail

T = TypeVar("T")
_DEFAULT = "~/.kube/config"
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

PoolName = Annotated[str, typer.Argument(metavar="POOL", help="The pool's name.")]


def ask(kubeconfig: str, question: Callable[[KubeAPI], Coroutine[Any, Any, T]]) -> T:
    """Run one question against the API server. What it can't answer ends the command: a line, exit status 1."""

    _refuse_absent(kubeconfig)

    async def answer() -> T:
        api = KubeAPI(kubeconfig)
        try:
            return await question(api)
        finally:
            await api.close()

    try:
        return asyncio.run(answer())
    except APIError as error:
        fail(_sentence(error))


def namespace_or_current(namespace: str | None, kubeconfig: str) -> str:
    """As kubectl has it: what was given, else the pod's own, else the current context's, else ``default``."""
    if namespace:
        return namespace
    _refuse_absent(kubeconfig)
    if not kubeconfig and _OWN_NAMESPACE.exists():
        return _OWN_NAMESPACE.read_text(encoding="ascii").strip()
    try:
        _, current = list_kube_config_contexts(kubeconfig or None)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError, ValueError, TypeError):
        return "default"  # a file that can't be read: the first call says so
    return (current or {}).get("context", {}).get("namespace") or "default"


def absent_cluster(kubeconfig: str) -> str | None:
    """Why there is no cluster to ask; None: there may be one. Of several files of KUBECONFIG one has to be there."""
    if not kubeconfig and _OWN_NAMESPACE.exists():
        return None
    files = [file for file in (kubeconfig or _DEFAULT).split(os.pathsep) if file]
    if any(Path(file).expanduser().exists() for file in files):
        return None
    return f"no cluster: there is no file {kubeconfig or _DEFAULT}; see --kubeconfig and KUBECONFIG"


def _refuse_absent(kubeconfig: str) -> None:
    if (why := absent_cluster(kubeconfig)) is not None:
        fail(why)


async def read_pool(api: KubeAPI, namespace: str, name: str) -> Object:
    """One pool. Ends the command where there is none."""
    try:
        return await api.get(pool_path(namespace, name))
    except APIError as error:
        if error.status != 404 or error.reason != "NotFound":
            raise
        fail(f"no {KIND} {name} in namespace {namespace}: `llmpool pools -A` lists all")


def ready_of(pool: Object) -> Object:
    """A pool's condition Ready; empty: its operator hasn't said."""
    conditions = (pool.get("status") or {}).get("conditions") or ()
    return next((condition for condition in conditions if condition["type"] == "Ready"), {})


def no_crd() -> NoReturn:
    """The cluster has never heard of pools."""
    fail(f"this cluster has no {PLURAL}.llmpool.dev: kubectl apply -f crds/llmworkerpools.yaml")


def _sentence(error: APIError) -> str:
    if error.status == 404 and error.reason != "NotFound":
        no_crd()
    if error.status == 401:
        return f"the API server doesn't know who you are: {error.message or error.reason}; log in, or see --kubeconfig"
    if error.status == 403:
        return f"no access: {error.message}"
    if error.status == 0:
        return f"no answer from the API server: {error.message}; see --kubeconfig and KUBECONFIG"
    return f"the API server refused: {error}"
