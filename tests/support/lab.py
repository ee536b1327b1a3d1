"""The lab: a program that starts a Docker engine, a Kubernetes node, Helm and a real Ollama on one machine.

It is no part of the project, and a user's machine has none; there, ``make test-full`` skips what needs it.
"""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = "LLMPOOL_LAB"
DEFAULT = ROOT.parent / "shared" / "lab" / "lab"
BUILD_TIMEOUT_S = 3_000
"""Its parts are built from source where they aren't there yet."""


@dataclass(frozen=True)
class Lab:
    """Runs the program; what it started stays up for the tests that follow."""

    program: Path

    @classmethod
    def find(cls) -> Self | None:
        program = Path(os.environ.get(VARIABLE) or DEFAULT)
        return cls(program) if program.is_file() else None

    @property
    def home(self) -> Path:
        return Path(os.environ.get("LAB_HOME") or Path.home() / ".cache" / "llm-lab")

    @property
    def kubeconfig(self) -> Path:
        return self.home / "run" / "kubeconfig"

    @property
    def models(self) -> Path:
        """Ollama's models, once :meth:`ollama` has run."""
        return self.home / "models"

    def tool(self, name: str) -> Path:
        """A program that the lab builds: helm, kubeconform, kube-score."""
        self("build", name)
        return self.home / "bin" / name

    def docker(self) -> None:
        """An engine with compose, and the base images."""
        self("build", "ollama")  # before the base images: Ollama's is made from it
        self("docker")

    def ollama(self) -> str:
        """A real Ollama with gemma3:270m and all-minilm; its address."""
        self("ollama")
        return "http://127.0.0.1:11434"

    def cluster_node(self) -> Path:
        """A control plane with this machine as its node; the kubeconfig. Pods reach this machine at 10.244.0.1."""
        self("cluster", "--node")
        # An engine that runs beside it forbids all forwarding that isn't its own, between pods of one bridge too.
        subprocess.run(["iptables", "--policy", "FORWARD", "ACCEPT"], check=False)
        return self.kubeconfig

    def image(self, tag: str, dockerfile: str) -> None:
        """Build an image of the repository and put it onto the node."""
        self("image", tag, str(ROOT / dockerfile), str(ROOT))

    def load(self, *tags: str) -> None:
        """Put images of the engine onto the node."""
        self("load", *tags)

    def __call__(self, *command: str) -> None:
        done = subprocess.run(
            [self.program, *command], capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False
        )
        assert done.returncode == 0, f"lab {' '.join(command)}: {done.stderr[-2_000:]}"
