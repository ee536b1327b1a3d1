"""A Kubernetes control plane for tests: any cluster the caller names, or a private one that starts in seconds.

`LLMPOOL_TEST_KUBECONFIG` names a kubeconfig of a cluster that runs already. Without it, etcd, the API server, the
controllers and the scheduler run as child processes on loopback ports (tests/support/control_plane_programs.py says
where their programs come from). There are no nodes: tests/support/kubelet.py is one.

As a script: `python -m tests.support.control_plane --build` builds the programs; without `--build` it also starts them
and prints the kubeconfig's path until Ctrl-C.
"""

import argparse
import json
import os
import secrets
import shutil
import signal
import ssl
import sys
import tempfile
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path
from typing import Any, Self

from tests.support.control_plane_programs import find_programs
from tests.support.processes import Child, ProcessError, free_port

START_TIMEOUT_S = 60.0
STOP_GRACE_S = 5.0
KUBECONFIG_VARIABLE = "LLMPOOL_TEST_KUBECONFIG"
# SEC 1's ECPrivateKey for P-256: a 32-byte number between these; Go works out the public part.
EC_KEY_HEAD = bytes.fromhex("30310201010420")
EC_KEY_TAIL = bytes.fromhex("a00a06082a8648ce3d030107")


class ControlPlane:
    """`with ControlPlane() as plane:` gives `plane.kubeconfig`, of an administrator. RBAC is on."""

    def __init__(self) -> None:
        given = os.environ.get(KUBECONFIG_VARIABLE)
        self._given = Path(given) if given else None
        self._folder: Path | None = None
        self._children: list[Child] = []
        self._token = secrets.token_hex(16)
        self._port = 0

    @property
    def kubeconfig(self) -> Path:
        return self._given or self.folder / "kubeconfig"

    @property
    def folder(self) -> Path:
        """Where a private control plane keeps its data and its logs (`*.log`)."""
        if self._folder is None:
            raise ProcessError("the control plane was not started, or it isn't ours")
        return self._folder

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self) -> None:
        if self._given is not None:
            if not self._given.is_file():
                raise ProcessError(f"{KUBECONFIG_VARIABLE}={self._given}: no such file")
            return
        programs = find_programs()
        self._folder = Path(tempfile.mkdtemp(prefix="llmpool-control-plane-"))
        try:
            self._start_all(programs)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End what was started, last first, by pid; remove the folder."""
        for child in reversed(self._children):
            child.stop(STOP_GRACE_S)
        self._children.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    def _start_all(self, programs: Path) -> None:
        etcd_url = f"http://127.0.0.1:{free_port()}"
        self._spawn(programs / "etcd", self._etcd_flags(etcd_url))
        self._write_credentials()
        api_server = self._spawn(programs / "kube-apiserver", self._api_server_flags(etcd_url))
        api_server.wait_until(lambda: self._get("/readyz") is not None, START_TIMEOUT_S, "a ready API server")
        self._write_kubeconfig()
        controllers = self._spawn(programs / "kube-controller-manager", self._controller_flags())
        scheduler = self._spawn(programs / "kube-scheduler", self._client_flags())
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        controllers.wait_until(lambda: self._get(account) is not None, START_TIMEOUT_S, "the default service account")
        scheduler.wait_until(scheduler.running, START_TIMEOUT_S, "a start")

    def _spawn(self, program: Path, flags: dict[str, str]) -> Child:
        command = [str(program), *(f"--{name}={value}" for name, value in flags.items())]
        child = Child(program.name, command, self.folder / f"{program.name}.log")
        child.start()
        self._children.append(child)
        return child

    def _write_credentials(self) -> None:
        (self.folder / "tokens.csv").write_text(f"{self._token},admin,admin,system:masters\n")
        key = EC_KEY_HEAD + secrets.token_bytes(32) + EC_KEY_TAIL
        pem = f"-----BEGIN EC PRIVATE KEY-----\n{b64encode(key).decode()}\n-----END EC PRIVATE KEY-----\n"
        (self.folder / "accounts.key").write_text(pem)
        self._port = free_port()

    def _write_kubeconfig(self) -> None:
        cluster = {"server": f"https://127.0.0.1:{self._port}", "certificate-authority": str(self._certificate())}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": self._token}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "admin"}}],
            "current-context": "tests",
        }
        self.kubeconfig.write_text(json.dumps(config, indent=1))
        self.kubeconfig.chmod(0o600)

    def _certificate(self) -> Path:
        """Written by the API server itself at its start: its own certificate, then the authority that signed it."""
        return self.folder / "apiserver.crt"

    def _etcd_flags(self, url: str) -> dict[str, str]:
        return {
            "data-dir": str(self.folder / "etcd"),
            "unsafe-no-fsync": "true",  # the data doesn't outlive the tests
            "log-level": "warn",
            "listen-client-urls": url,
            "advertise-client-urls": url,
            "listen-peer-urls": f"http://127.0.0.1:{free_port()}",
        }

    def _api_server_flags(self, etcd_url: str) -> dict[str, str]:
        return {
            "etcd-servers": etcd_url,
            "secure-port": str(self._port),
            "bind-address": "127.0.0.1",
            "advertise-address": "127.0.0.1",
            "cert-dir": str(self.folder),
            "token-auth-file": str(self.folder / "tokens.csv"),
            "authorization-mode": "RBAC",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": str(self.folder / "accounts.key"),
            "service-account-signing-key-file": str(self.folder / "accounts.key"),
            "service-cluster-ip-range": "10.96.0.0/24",
            "endpoint-reconciler-type": "none",  # a loopback address can't be an endpoint of the kubernetes service
        }

    def _controller_flags(self) -> dict[str, str]:
        return {
            **self._client_flags(),
            "service-account-private-key-file": str(self.folder / "accounts.key"),
            "root-ca-file": str(self._certificate()),
            "use-service-account-credentials": "true",
        }

    def _client_flags(self) -> dict[str, str]:
        return {
            "kubeconfig": str(self.kubeconfig),
            "leader-elect": "false",
            "secure-port": "0",
            "kube-api-qps": "200",
            "kube-api-burst": "400",
        }

    def _get(self, path: str) -> Any | None:
        """The body at `path`, None while the server isn't there, isn't ready or doesn't have it."""
        if not self._certificate().exists():
            return None
        tls = ssl.create_default_context(cafile=str(self._certificate()))
        request = urllib.request.Request(
            f"https://127.0.0.1:{self._port}{path}", headers={"Authorization": f"Bearer {self._token}"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls))
        try:
            with opener.open(request, timeout=5) as answer:
                return answer.read()
        except (urllib.error.URLError, OSError):  # HTTPError (not ready, 404) is a URLError
            return None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.control_plane", description=__doc__)
    parser.add_argument("--build", action="store_true", help="only make sure that the programs are there")
    arguments = parser.parse_args()
    try:
        if arguments.build:
            if not os.environ.get(KUBECONFIG_VARIABLE):
                find_programs()
            return
        with ControlPlane() as plane:
            print(plane.kubeconfig, flush=True)
            ends = {signal.SIGINT, signal.SIGTERM}
            signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # only now: children inherit the mask
            signal.sigwait(ends)
    except ProcessError as error:
        sys.exit(f"control plane: {error}")


if __name__ == "__main__":
    main()
