"""The documents say what the code does: tables, names and paths are held to it. (Links: test_docs_links.py.)"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import BaseModel
from tools.configuration import default_of, range_of, written

from llmpool_cli.main import _Commands
from llmpool_client.dead import DeadLetter
from llmpool_contract import BackendKeys, Job, Message, Options, PoolKeys, QueueKeys, Result, env
from llmpool_contract.pool import OWNED_ENV
from llmpool_operator.settings import Settings as OperatorSettings
from llmpool_worker.settings import Settings as WorkerSettings
from tests.test_house import NOT_OURS

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    path.relative_to(ROOT) for path in ROOT.rglob("*.md") if not NOT_OURS.intersection(path.relative_to(ROOT).parts)
)
# Whose sites a reader may be sent to. A package registry's or a mirror's address has no place in a document.
HOSTS = {
    "jaeger",
    "ai.google.dev",
    "keepachangelog.com",
    "localhost",
    "ollama",
    "redis-master",
    "semver.org",
}
MACHINE_ROOTS = ["home", "opt", "root", "tmp", "usr", "var", "work", "Users"]
MACHINE_PATH = re.compile(r"(?<![\w./~$}-])/(?:" + "|".join(MACHINE_ROOTS) + r")\b")
# Where an error's code stands among the arguments of the calls that make one.
CODE_ARGUMENT = {"BadJob": 0, "Refused": 0, "BackendError": 1, "_bury": 2}


def text_of(document: str | Path) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def section(document: str, heading: str) -> str:
    """The text under a heading, its own sub-headings included."""
    found = re.search(
        rf"^(#+) {re.escape(heading)}$(.*?)(?=^#{{1,2}} |\Z)", text_of(document), re.MULTILINE | re.DOTALL
    )
    assert found, f"{document} has no heading {heading!r}"
    return found[2]


def table(text: str, first_column: str) -> list[dict[str, str]]:
    """The rows of the table whose first column has that name, as the cells under each column's name."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    header = next(n for n, row in enumerate(rows) if cells(row)[0] == first_column)
    names, found = cells(rows[header]), []
    for row in rows[header + 2 :]:
        if set(row) <= set("|-"):
            break  # the rule under the next table's header
        found.append(dict(zip(names, cells(row), strict=True)))
    return found


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").split("|")]


def bare(cell: str) -> str:
    """A cell without its backticks."""
    return cell.strip("`")


def tables_of(model: type[BaseModel]) -> list[dict[str, str]]:
    heading = "The worker" if model is WorkerSettings else "The operator"
    return table(section("docs/configuration.md", heading), "Variable")


def unit_of(name: str) -> str | None:
    """The unit that an operator's variable promises by its name. None: it promises none."""
    if name.endswith(("_TIMEOUT", "_TICK", "_RELIST")):
        return "s"
    return "port" if name.endswith("_PORT") else None


def test_configuration_is_what_the_settings_say():
    """The worker's table in docs/configuration.md is what `make docs` writes from the settings' docstrings."""
    assert text_of("docs/configuration.md") == written(text_of("docs/configuration.md"), WorkerSettings)


@pytest.mark.parametrize("model", [WorkerSettings, OperatorSettings], ids=["worker", "operator"])
def test_configuration_lists_every_setting(model):
    """docs/configuration.md has each variable of a program, in the code's order, and no other."""
    assert [bare(row["Variable"]) for row in tables_of(model)] == [name.upper() for name in model.model_fields]


@pytest.mark.parametrize("model", [WorkerSettings, OperatorSettings], ids=["worker", "operator"])
def test_configuration_has_the_code_s_defaults_and_bounds(model):
    """Defaults, bounds and units of docs/configuration.md are those that the program really has."""
    written = {bare(r["Variable"]): (bare(r["Default"]), r["Allowed"]) for r in tables_of(model)}
    real = {name.upper(): (default_of(name, f), range_of(f)) for name, f in model.model_fields.items()}
    assert written == real
    for row in tables_of(OperatorSettings):
        unit = unit_of(bare(row["Variable"]))
        assert unit is None or row["Unit"] == unit, row


def test_readme_lists_what_first_users_set():
    """README's table has the variables of the contract, with the defaults and units of docs/configuration.md."""
    rows = table(section("README.md", "Settings of a worker"), "Variable")
    assert {bare(row["Variable"]) for row in rows} == {*env.DEFAULTS, env.WORKER_ID}
    whole = {row["Variable"]: row for row in tables_of(WorkerSettings)}
    assert [(r["Default"], r["Unit"]) for r in rows] == [
        (whole[r["Variable"]]["Default"], whole[r["Variable"]]["Unit"]) for r in rows
    ]


def test_configuration_names_what_a_pool_sets_itself():
    """The variables that a pool refuses in worker.env are named where pools are configured."""
    assert set(re.findall(r"`([A-Z_]+)`", section("docs/configuration.md", "A pool"))) >= OWNED_ENV


def test_job_fields():
    """docs/jobs.md has each field of a job, in the code's order, with its default."""
    rows = table(section("docs/jobs.md", "The job"), "Field")
    written = {bare(row["Field"]): bare(row["Default"]) for row in rows}
    real = {}
    for name, field in Job.model_fields.items():
        real[name] = "required" if field.is_required() else {None: "none", False: "false"}[field.default]
    assert list(written.items()) == list((real | {"id": "made by the worker"}).items())


@pytest.mark.parametrize("model", [Message, Options], ids=["message", "options"])
def test_parts_of_a_job(model):
    """Each field of a message and each sampling option is named in docs/jobs.md."""
    named = set(re.findall(r"`(\w+)`", section("docs/jobs.md", "The job")))
    assert named >= set(model.model_fields)


def test_result_fields():
    """docs/jobs.md has each field of a result, in the code's order."""
    rows = table(section("docs/jobs.md", "The result"), "Field")
    assert [bare(row["Field"]) for row in rows] == list(Result.model_fields)


def test_dead_letter_fields():
    """docs/jobs.md names each field of a dead letter's entry."""
    named = set(re.findall(r"`(\w+)`", section("docs/jobs.md", "Errors and retries")))
    renamed = {"job_id": "id"}
    fields = {renamed.get(name, name) for name in DeadLetter.__dataclass_fields__} - {"queue", "entry"}
    assert named >= fields


def codes_in(source: Path) -> Iterator[str]:
    """The error codes that a module can give: constants at the known place of the known calls."""
    for node in ast.walk(ast.parse(source.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        place = CODE_ARGUMENT.get(name)
        if place is None or len(node.args) <= place:
            continue
        argument = node.args[place]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            yield argument.value


def test_error_codes():
    """The table of error codes has every code that the contract and the worker can give, and no other."""
    rows = table(section("docs/jobs.md", "Errors and retries"), "`code`")
    sources = [*(ROOT / "contract").rglob("*.py"), *(ROOT / "worker").rglob("*.py")]
    assert {bare(row["`code`"]) for row in rows} == {code for source in sources for code in codes_in(source)}


def test_redis_keys():
    """The table of Redis keys has every key of the contract as the code spells it, and no other."""
    rows = table(section("docs/architecture.md", "Redis keys"), "Key")
    queue, pool = QueueKeys("q"), PoolKeys("NS/NAME")
    real = {queue.claimed, queue.lease, queue.delayed, queue.dead, queue.stats, queue.events, queue.cancels}
    real |= {*queue.ready, queue.waiting, queue.limits, queue.turns, queue.used, queue.cache("<hash>")}
    real |= {pool.workers, pool.config, queue.settled("<token>")}
    real |= {queue.batches, *(of("<id>") for of in (queue.batch, queue.batch_ids, queue.batch_faults))}
    server = BackendKeys("<hash>")
    real |= {server.members, server.alive, server.plan, server.permits, server.news}
    real |= {of("<id>") for of in (queue.id, queue.result, queue.stream, queue.cancel)}
    assert {bare(row["Key"]) for row in rows} == real


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_named_files_exist(document):
    """Every path in backticks that looks like a file of the repository is one."""
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]*\.(?:py|lua|md|yaml|txt|toml))`", text_of(document))
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_named_commands_exist(document):
    """Every `make` target and every subcommand of llmpool that a document names is there."""
    text = text_of(document)
    code = "\n".join([*re.findall(r"`([^`\n]+)`", text), *re.findall(r"```sh\n(.*?)```", text, re.DOTALL)])
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    made = {word for line in re.findall(r"\bmake ([a-z][a-z -]*)", code) for word in line.split()}
    commands = {name for name, _, _ in _Commands.lazy_commands}
    called = set(re.findall(r"(?<!install )(?<!upgrade )\bllmpool ([a-z]+)", code))  # helm calls a release so
    assert (made - targets, called - commands) == (set(), set())


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_no_machine_s_paths_and_no_registry_s_hosts(document):
    """Documents name no absolute path of somebody's machine, and send readers only to the sites listed here."""
    text = text_of(document)
    hosts = {urlsplit(url).hostname for url in re.findall(r"\b(?:https?|rediss?)://[\w.:/-]+", text)}
    assert (MACHINE_PATH.findall(text), hosts - HOSTS) == ([], set())


def test_every_decision_is_listed():
    """The list of decision records has each of them under its own title, numbered without a gap."""
    records = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    assert [name[:4] for name in records] == [f"{n:04}" for n in range(1, len(records) + 1)]
    listed = re.findall(r"\[(\d{4})\]\(([^)]+)\) \| (.+) \|", text_of("docs/decisions/README.md"))
    titles = [(n, name, text_of(f"docs/decisions/{name}").splitlines()[0]) for n, name, _ in listed]
    assert [name for _, name, _ in titles] == records
    assert [(n, name, f"# {n}: {title}") for n, name, title in listed] == titles


def test_licence_is_whole():
    """LICENSE is the whole of Apache-2.0: from its title to the end of its appendix, with all nine sections."""
    text = text_of("LICENSE")
    assert "Version 2.0, January 2004" in text.splitlines()[2]
    assert re.findall(r"^ {3}(\d)\. ", text, re.MULTILINE) == list("123456789")
    assert text.rstrip().endswith("limitations under the License.")
