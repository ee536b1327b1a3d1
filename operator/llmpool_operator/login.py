"""Where the API server is and who we are to it: KUBECONFIG if given, else the service account, else ``~/.kube/config``.

One way for both users: our own calls, and Kopf's watches, which get what was found here (so that exec plugins work for
both).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import load_incluster_config, load_kube_config
from kubernetes.aio.config.config_exception import ConfigException

if TYPE_CHECKING:
    import kopf

_SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class LoginError(Exception):
    """There is no usable way to the API server."""


async def find_cluster(kubeconfig: str) -> Configuration:
    """The API server's address and credentials; short-lived tokens are refreshed by the configuration's own hook.

    Raises:
        LoginError: naming what was tried.
    """
    configuration = Configuration()
    try:
        if not kubeconfig and _SERVICE_ACCOUNT_TOKEN.exists():  # noqa: ASYNC240 - a file in memory, once
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            await load_kube_config(  # type: ignore[no-untyped-call]
                config_file=kubeconfig or None, client_configuration=configuration, persist_config=False
            )
    except (ConfigException, OSError, ValueError, TypeError, yaml.YAMLError) as error:  # a file of something else, too
        tried = kubeconfig or "the service account and ~/.kube/config"
        why = error if _is_there(kubeconfig) else "no such file"
        raise LoginError(f"no cluster: tried {tried}: {why}. Set KUBECONFIG, or run in a pod") from error
    # An attempt is a turn's business here: a call that fails is told, and the next tick makes a fresh one.
    configuration.retries = None
    return configuration


def _is_there(kubeconfig: str) -> bool:
    paths = [path for path in kubeconfig.split(os.pathsep) if path] or ["~/.kube/config"]
    return any(Path(path).expanduser().exists() for path in paths)


async def as_connection_info(configuration: Configuration) -> kopf.ConnectionInfo:
    """The same for Kopf, which asks at its start and again after each 401."""
    import kopf  # not above: whoever only makes calls need not wait a third of a second for it

    bearer = await configuration.get_api_key_with_prefix("BearerToken") or ""
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        username=configuration.username or None,
        password=configuration.password or None,
        token=bearer.rpartition(" ")[2] or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        proxy_url=configuration.proxy,
    )
