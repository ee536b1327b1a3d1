"""What documents tell readers to type is there: files, targets, commands, options, variables, services."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from tools.markdown import fences

from llmpool_cli.main import app
from llmpool_operator.settings import Settings as OperatorSettings
from llmpool_worker.settings import Settings as WorkerSettings
from tests.support.shell_lines import Command, commands
from tests.test_documents import DOCUMENTS, ROOT, section, table, text_of

# Names at the root of the repository that a word of a command may begin with.
PLACES = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")} - {"build", "dist"}
MADE_BY_READERS = {"build/site/index.html"}
OPTIONS = {
    "llmpool-worker": {"--help", "--version", "--check", "-o", "--output"},
    "llmpool-operator": {"--help", "--version"},
}


def shell_blocks(document: str | Path) -> str:
    return "\n".join(fence.text for fence in fences(text_of(document)) if fence.language in {"sh", "bash", "shell"})


def typed(document: str | Path) -> list[Command]:
    return list(commands(shell_blocks(document)))


def known_variables() -> set[str]:
    """Every variable that a program of the project, its Makefile, its tests or a library of theirs reads."""
    settings = {name.upper() for model in (WorkerSettings, OperatorSettings) for name in model.model_fields}
    rows = table(section("docs/configuration.md", "Tests and tools"), "Variable")
    return settings | {row["Variable"].strip("`") for row in rows} | {"KUBECONFIG", "NO_COLOR"}


def unknown_options(words: list[str], command: Any, path: str) -> Iterator[str]:
    """Options and subcommands of a call that the command line (a typer command) doesn't have."""
    allowed = {"--help"} | {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    for n, word in enumerate(words):
        if hasattr(command, "get_command") and not word.startswith("-"):
            inner = command.get_command(command.context_class(command), word)
            if inner is None:
                yield f"{path} {word}"
            else:
                # A lazy command's place is taken by the real one where its arguments are read.
                real = inner.make_context(word, [], resilient_parsing=True).command
                yield from unknown_options(words[n + 1 :], real, f"{path} {word}")
            return
        name = word.split("=")[0]
        if re.fullmatch(r"-{1,2}[A-Za-z][\w-]*", name) and name not in allowed:
            yield f"{path} {name}"


def faults(command: Command) -> Iterator[str]:
    """What is wrong with a command of a document."""
    words = list(command.words)
    if command.program in {"llmpool", "kubectl-llmpool"}:
        yield from unknown_options(words[1:], typer.main.get_command(app), "llmpool")
    if command.program in OPTIONS:
        yield from (w for w in words[1:] if w.startswith("-") and w not in OPTIONS[command.program])
    ours = command.program.startswith("llmpool") or command.program == "make"
    for name in command.variables if ours else ():
        if name.removesuffix("_FILE") not in known_variables():
            yield f"{name}: no program of the project reads it"
    yield from missing_files(words)


def missing_files(words: list[str]) -> Iterator[str]:
    """Words that look like files of the repository and are none. Capitals (`FILE.yaml`) are a reader's own."""
    for word in words:
        name = word.split("=", 1)[-1] if word.startswith("--") else word
        name = name.removeprefix("./").rstrip("/")
        if name in MADE_BY_READERS or name.split("/")[0] not in PLACES or name in PLACES:
            continue
        if not any(ROOT.glob(name)):
            yield f"{word}: no such file"


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_what_is_typed_exists(document):
    """Commands, subcommands and options of llmpool, variables before our programs, and the repository's files exist."""
    assert [fault for command in typed(document) for fault in faults(command)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_compose_services_exist(document):
    """A service that `docker compose` is told of is one of a compose file of the repository."""
    named = set()
    for command in typed(document):
        words = command.words
        if words[:2] == ("docker", "compose") or command.program == "docker-compose":
            named |= {found[1] for found in re.finditer(r"--scale[ =]([\w-]+)=", " ".join(words))}
            named |= {words[words.index("exec") + 1]} if "exec" in words else set()
    files = [*ROOT.glob("docker-compose*.yml"), *(ROOT / "infra").glob("*.yml")] if named else []
    known = set().union(*(compose_services(file) for file in files))
    assert named - known == set()


def compose_services(file: Path) -> set[str]:
    """The services of a compose file, read without regard to compose's own tags (`!reset`, `!override`)."""
    text = re.sub(r"!(reset|override)\b", "", file.read_text(encoding="utf-8"))
    return set((yaml.safe_load(text) or {}).get("services") or {})


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_chart_values_exist(document):
    """A value that `helm` is given by --set is one of the chart."""
    keys = {
        found[1]
        for command in typed(document)
        if command.program == "helm"
        for found in re.finditer(r"--set(?:-string|-json)?[ =]([\w.-]+)", " ".join(command.words))
    }
    values = yaml.safe_load(text_of("charts/llm-worker-pool/values.yaml")) if keys else {}
    assert [key for key in keys if not has_value(values, key.split("."))] == []


def has_value(values: object, path: list[str]) -> bool:
    """Whether a value is there. Below an empty mapping or list anything may be."""
    if not path or (isinstance(values, dict | list) and not values):
        return True
    return isinstance(values, dict) and path[0] in values and has_value(values[path[0]], path[1:])


@pytest.mark.parametrize(
    ("script", "found"),
    [
        pytest.param("A=1 B=2 x/llmpool why 7 | cat", [("A", "B"), ("x/llmpool", "why", "7"), (), ("cat",)], id="pipe"),
        pytest.param("make a \\\n  b # more", [(), ("make", "a", "b")], id="continued, with a comment"),
        pytest.param("export A=1\nx > out 2>&1 && y", [("A",), (), (), ("x", "2"), (), ("y",)], id="redirections"),
        pytest.param("""x '{"a": "b;c"}'""", [(), ("x", '{"a": "b;c"}')], id="quotes"),
    ],
)
def test_commands_are_read_as_a_shell_would(script, found):
    """Words, variables and the ends of commands are those that a shell sees."""
    assert [part for command in commands(script) for part in (command.variables, command.words)] == found


@pytest.mark.parametrize(
    ("line", "told"),
    [
        pytest.param("llmpool whi 7", "llmpool whi", id="command"),
        pytest.param("llmpool dead lst", "llmpool dead lst", id="subcommand"),
        pytest.param("llmpool queues --limt 3", "llmpool queues --limt", id="option"),
        pytest.param("WORKER_X=3 llmpool-worker", "WORKER_X: no program of the project reads it", id="variable"),
        pytest.param("kubectl apply -f examples/pol.yaml", "examples/pol.yaml: no such file", id="file"),
        pytest.param("llmpool-worker --chek", "--chek", id="worker's option"),
    ],
)
def test_mistakes_are_found(line, told):
    """The check itself finds what it is there for."""
    (command,) = commands(line)
    assert list(faults(command)) == [told]
