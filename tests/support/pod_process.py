"""What a kubelet makes of a pod's first container: a command, an environment, and a child process kept alive."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.processes import ProcessError

ENTRYPOINT = ("llmpool-worker",)  # of the worker's image, for a container without a command
POD_IP = "127.0.0.1"
FIRST_BACKOFF_S = 0.2
LONGEST_BACKOFF_S = 5.0
REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")

Pod = Mapping[str, Any]
SecretReader = Callable[[str], Awaitable[Mapping[str, str]]]


class ContainerConfigError(ProcessError):
    """The pod's container can't be made as it is written; a kubelet says CreateContainerConfigError."""


async def container_environment(pod: Pod, read_secret: SecretReader) -> dict[str, str]:
    """The container's variables: literals with `$(NAME)` expanded, field references and secret keys."""
    container = first_container(pod)
    if container.get("envFrom"):
        raise ContainerConfigError("envFrom: the tests' kubelet knows env only")
    found: dict[str, str] = {}
    for entry in container.get("env") or []:
        value = await _value(pod, entry, read_secret)
        if value is not None:
            found[entry["name"]] = expand(value, found)
    return found


def container_command(pod: Pod, env: Mapping[str, str]) -> list[str]:
    """`command` and `args` with `$(NAME)` expanded; a program without a slash is one of the virtual environment's."""
    container = first_container(pod)
    command = [*(container.get("command") or ENTRYPOINT), *(container.get("args") or [])]
    program, *arguments = [expand(part, env) for part in command]
    if "/" not in program:
        program = str(Path(sys.executable).parent / program)
    if not os.access(program, os.X_OK):
        raise ContainerConfigError(f"command {command[0]!r}: {program} isn't there or can't be executed")
    return [program, *arguments]


def first_container(pod: Pod) -> Mapping[str, Any]:
    container: Mapping[str, Any] = pod["spec"]["containers"][0]
    return container


def expand(text: str, env: Mapping[str, str]) -> str:
    """`$(NAME)` as Kubernetes expands it: unknown names stay, `$$` is a dollar."""

    def one(match: re.Match[str]) -> str:
        name = match[1]
        return "$" if name is None else env.get(name, match[0])

    return REFERENCE.sub(one, text)


async def _value(pod: Pod, entry: Mapping[str, Any], read_secret: SecretReader) -> str | None:
    """One variable's value before expansion; None where an optional secret isn't there."""
    source = entry.get("valueFrom")
    if source is None:
        return str(entry.get("value", ""))
    if "fieldRef" in source:
        return _field(pod, source["fieldRef"]["fieldPath"])
    if "secretKeyRef" not in source:
        raise ContainerConfigError(f"env {entry['name']}: valueFrom {sorted(source)}: not known to the tests' kubelet")
    wanted = source["secretKeyRef"]
    values = await read_secret(wanted["name"])
    if wanted["key"] in values:
        return values[wanted["key"]]
    if wanted.get("optional"):
        return None
    raise ContainerConfigError(f"env {entry['name']}: no key {wanted['key']!r} in secret {wanted['name']!r}")


def _field(pod: Pod, path: str) -> str:
    metadata = pod["metadata"]
    fields = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": pod["spec"].get("nodeName", ""),
        "status.podIP": POD_IP,
        "status.hostIP": POD_IP,
    }
    if path not in fields:
        raise ContainerConfigError(f"fieldPath {path!r}: the tests' kubelet knows {', '.join(fields)}")
    return str(fields[path])


@dataclass
class PodProcess:
    """The process of one pod: restarted with a backoff when it ends by itself, ended by SIGTERM, then SIGKILL."""

    command: Sequence[str]
    env: Mapping[str, str]
    folder: Path
    log: Path
    restarts: int = 0
    last_exit: int | None = None
    process: asyncio.subprocess.Process | None = None
    _stopping: bool = field(default=False, init=False)

    @property
    def pid(self) -> int:
        if self.process is None:
            raise ProcessError(f"{self.log.stem}: its process has not started")
        return self.process.pid

    def running(self) -> bool:
        return self.process is not None and self.process.returncode is None

    async def keep_running(self, on_change: Callable[[], None]) -> None:
        """Run until `stop`; `on_change` is called after each start and each end."""
        backoff_s = FIRST_BACKOFF_S
        while not self._stopping:
            process = await self._start()
            on_change()
            if self._stopping:  # `stop` came while the process was born
                process.kill()
            self.last_exit = await process.wait()
            on_change()
            if not self._stopping:
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, LONGEST_BACKOFF_S)
                self.restarts += 1

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, at most `grace_s` of waiting, SIGKILL."""
        self._stopping = True
        if self.process is None or self.process.returncode is not None:
            return
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.process.wait(), grace_s)
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await self.process.wait()

    async def _start(self) -> asyncio.subprocess.Process:
        self.folder.mkdir(exist_ok=True)
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                env=self.env,
                cwd=self.folder,
                start_new_session=True,
            )
        return self.process

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        try:
            self.process.send_signal(number)
        except ProcessLookupError:
            return  # it ended between the look and the signal
