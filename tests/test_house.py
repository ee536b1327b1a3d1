"""The house rules that no linter knows: what the wheel holds, which way imports go, what no file may name."""

import email
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HOMES = {
    "llmpool_contract": "contract",
    "llmpool_client": "client",
    "llmpool_worker": "worker",
    "llmpool_operator": "operator",
    "llmpool_cli": "cli",
}
SCRIPTS = {"llmpool", "kubectl-llmpool", "llmpool-worker", "llmpool-operator"}
EXTRAS = {"worker", "operator", "cli", "demo"}
# Folders that the tools make, none of which is the project's text.
NOT_OURS = {
    ".git",
    ".venv",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".hypothesis",
    ".import_linter_cache",
    ".cache",
    "__pycache__",
    "build",
    "dist",
    "logs",
    "node_modules",
    "site",
}
# Absolute paths of one person's machine; written so that this file doesn't name them itself.
PRIVATE_PATH = re.compile(r"(?<![\w./~}-])/(" + "|".join(["work", "root", "Users"]) + r")/[\w.-]")


def test_operator_folder_is_no_package():
    """`operator/` must not have an `__init__.py`: from the repository's root it would shadow the standard library's
    `operator`, which `collections`, `functools` and so nearly every program import."""
    assert not (ROOT / "operator" / "__init__.py").exists()


@pytest.mark.parametrize("how", ["current folder", "PYTHONPATH"])
def test_standard_operator_is_imported_from_the_repository_root(how):
    """With the repository's root first on sys.path, `import operator` is still the standard library's."""
    env = {**os.environ, "PYTHONPATH": str(ROOT) if how == "PYTHONPATH" else ""}
    program = (
        "import sys; assert sys.path[0] == {first!r}, sys.path; import operator; print(operator.itemgetter(1)('ab'))"
    )
    # A program given by -c has the current folder (as '') first on its path; -P leaves it out.
    options = ["-P"] if how == "PYTHONPATH" else []
    first = str(ROOT) if how == "PYTHONPATH" else ""
    command = [sys.executable, *options, "-c", program.format(first=first)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("b\n", "")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel, built from this checkout with the locked build backend."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as opened:
        yield opened


def test_wheel_holds_the_packages_and_nothing_else(wheel):
    """The wheel's top level is the five packages and its metadata: no tests, no `operator/`, no stray file."""
    tops = {name.split("/")[0] for name in wheel.namelist()}
    (metadata,) = [top for top in tops if top.endswith(".dist-info")]
    assert tops == {*HOMES, metadata}
    assert not [name for name in wheel.namelist() if "/tests/" in name or "__pycache__" in name]


@pytest.mark.parametrize(("package", "home"), HOMES.items(), ids=list(HOMES))
def test_wheel_holds_each_file_of_a_package(wheel, package, home):
    """Every source file of a package is in the wheel: its Python, its Lua scripts, its data and its py.typed."""
    folder = ROOT / home / package
    sources = {
        path.relative_to(ROOT / home).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert f"{package}/py.typed" in sources
    assert {name for name in wheel.namelist() if name.startswith(f"{package}/")} == sources


def test_wheel_metadata_names_commands_extras_and_licence(wheel):
    """The commands, the extras and the licence's text are what a user of the package index is promised."""
    (folder,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    scripts = wheel.read(f"{folder}/entry_points.txt").decode()
    assert set(re.findall(r"^([\w-]+) = ", scripts, re.MULTILINE)) == SCRIPTS
    metadata = email.message_from_bytes(wheel.read(f"{folder}/METADATA"))
    assert metadata["Name"] == "llm-worker-pool"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("Provides-Extra", [])) >= EXTRAS
    assert "Apache License" in wheel.read(f"{folder}/licenses/LICENSE").decode()


def test_imports_go_one_way():
    """contract <- client, worker, operator <- cli, as pyproject.toml's import-linter contract has it."""
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_names_a_private_path():
    """No text in the repository names a folder of the machine that it was written on."""
    found = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in NOT_OURS]
        for path in (Path(folder) / name for name in files):
            try:
                text = path.read_text()
            except UnicodeDecodeError:
                continue  # not text
            found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in PRIVATE_PATH.finditer(text)]
    assert found == []
