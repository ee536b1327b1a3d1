"""The example's gateway as a user runs it: uvicorn, in a process of its own."""

import os
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

from tests.support.control_plane_programs import REPOSITORY
from tests.support.processes import Child, free_port

START_TIMEOUT_S = 30.0
FOLDER = REPOSITORY / "examples" / "gateway"


class GatewayProcess:
    """`with GatewayProcess(redis_url, GATEWAY_OPEN="true") as gateway: gateway.url` ends in /v1."""

    def __init__(self, redis_url: str, **env: str) -> None:
        self._port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="llmpool-gateway-"))
        command = [sys.executable, "-m", "uvicorn", "--factory", "gateway.app:create", "--port", str(self._port)]
        settings = {"PATH": os.environ["PATH"], "REDIS_URL": redis_url, **env}
        self.child = Child("gateway", command, self._folder / "gateway.log", env=settings, cwd=FOLDER)
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        return f"{self.root}/v1"

    @property
    def log(self) -> str:
        return self.child.log.read_text()

    def __enter__(self) -> Self:
        self.child.start()
        self.child.wait_until(self._healthy, START_TIMEOUT_S, "/healthz")
        return self

    def __exit__(self, *_error: object) -> None:
        self.child.kill()
        self.remove()

    def remove(self) -> None:
        """Its folder, log and all."""
        shutil.rmtree(self._folder)

    def _healthy(self) -> bool:
        try:
            with self._opener.open(f"{self.root}/healthz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False
