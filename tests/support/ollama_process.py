"""The scripted Ollama as a process of its own, for tests whose other parts are processes too."""

import json
import shutil
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any, Self

from tests.support.control_plane_programs import REPOSITORY
from tests.support.ollama_script import Rule, Script
from tests.support.processes import Child, free_port

START_TIMEOUT_S = 15.0
CALL_TIMEOUT_S = 5.0


class OllamaProcess:
    """`with OllamaProcess() as ollama: ollama.url`; `script` and `seen` talk to it over HTTP, and block.

    `host` is the address that it listens on: pods of a real node don't reach the loopback one.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host
        self._port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="llmpool-ollama-"))
        command = [sys.executable, "-m", "tests.support.scripted_ollama", "--host", host]
        command += ["--port", str(self._port)]
        self._child = Child("scripted-ollama", command, self._folder / "ollama.log", cwd=REPOSITORY)
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}"

    def __enter__(self) -> Self:
        self.restart()
        return self

    def __exit__(self, *_error: object) -> None:
        self._child.stop()
        shutil.rmtree(self._folder)

    def restart(self) -> None:
        """Start (again, after `kill`) on the same port, with the default script."""
        self._child.start()
        self._child.wait_until(self._answers, START_TIMEOUT_S, "an answer")

    def kill(self) -> None:
        self._child.kill()

    def script(self, *rules: Rule, **settings: Any) -> None:
        """Set the script (`settings`: the other fields of Script) and forget what was seen."""
        self._call("/_script", Script(rules=rules, **settings).to_json())

    def reset(self) -> None:
        """The default script, and nothing seen; starts the process again where a test has killed it."""
        if not self._child.running():
            self.restart()
        self._call("/_script", {})

    def seen(self) -> dict[str, Any]:
        """What Seen.to_json gives: calls, count by model, loads, changes of memory, swap races, running, and peaks."""
        seen: dict[str, Any] = self._call("/_seen")
        return seen

    def _answers(self) -> bool:
        try:
            self._call("/api/version")
        except OSError:
            return False
        return True

    def _call(self, path: str, body: Any | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with self._opener.open(urllib.request.Request(self.url + path, data), timeout=CALL_TIMEOUT_S) as answer:
            return json.load(answer)
