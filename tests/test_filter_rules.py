"""The rules file: what is refused and how, whom a rule is for, what a change does."""

import sys
from pathlib import Path
from typing import get_args

import pytest
from structlog.testing import capture_logs

from llmpool_worker.filters import Blocked, RulesError, make_filters
from llmpool_worker.filters.detectors import DETECTORS
from llmpool_worker.filters.presidio import make_analyzer
from llmpool_worker.filters.rules import read_rules
from llmpool_worker.filters.spec import Action, DetectorName, MatchSpec, RuleSpec
from llmpool_worker.settings import load
from tests.support.filter_bench import bench, generate, nothing, one
from tests.test_documents import bare, table, text_of


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("rules: [", "not YAML", id="no-yaml"),
        pytest.param("[]", "f.yaml: got []: input should be a valid dictionary", id="no-mapping"),
        pytest.param("colour: 1\nrules: []", "colour: unknown field, allowed are rules", id="unknown-at-top"),
        pytest.param(one(colour="1"), "rule r: colour: unknown field, allowed are id, on, action", id="unknown-field"),
        pytest.param(one(match="{regexp: x}"), "match.regexp: unknown field, allowed are keywords", id="unknown-match"),
        pytest.param(one(only="{users: [a]}"), "only.users: unknown field, allowed are tenants", id="unknown-scope"),
        pytest.param(one() + "\n    action: flag", "key 'action' is there twice", id="duplicate-key"),
        pytest.param(one() + one().removeprefix("rules:"), "id r is there twice", id="duplicate-id"),
        pytest.param(one(id="Secrets!"), "id: got 'Secrets!': string should match", id="bad-id"),
        pytest.param(one(id="hook"), "this name is the hook's", id="reserved-id"),
        pytest.param("rules:\n  - on: input", "rule 0: id: missing", id="missing"),
        pytest.param(one(action="stop"), "rule r: action: got 'stop': input should be 'block', 'redact'", id="action"),
        pytest.param(one(on="yes"), "rule r: on: got 'yes': input should be 'input', 'output' or 'both'", id="on"),
        pytest.param(one(match="{}"), "got none, wanted one of keywords, regex", id="no-match"),
        pytest.param(one(match="{regex: a, detector: ip}"), "got regex and detector, wanted one", id="two-matches"),
        pytest.param(one(match="{detector: soul}"), "match.detector: got 'soul'", id="detector"),
        pytest.param(one(match="{detector: ip, case_sensitive: true}"), "not for detector", id="case-of-detector"),
        pytest.param(
            one(match="{regex: 'a+'}"), "f.yaml: rule r: match.regex: got 'a+': a match could", id="unbounded"
        ),
        pytest.param(one(match="{keywords: [1]}"), "match.keywords.0: got 1", id="keyword-number"),
        pytest.param(one(match="{keywords: [' ']}"), "match.keywords.0: got ' '", id="keyword-blank"),
        pytest.param(one(replace="x"), "replace: only with action redact, not with block", id="replace"),
        pytest.param(one(action="redact", replace="' '"), "rule r: replace: got ' '", id="blank-replacement"),
    ],
)
def test_a_broken_file_is_refused(text: str, says: str) -> None:
    """The error names file, rule, field, what was given and what is allowed."""
    with pytest.raises(RulesError) as caught:
        read_rules(text, "f.yaml", nothing)
    assert str(caught.value).startswith("f.yaml: ")
    assert says in str(caught.value)


def test_no_and_on_are_words() -> None:
    """YAML 1.1's booleans are words here, as a key and as a keyword."""
    rules = read_rules(one(on="input", match="{keywords: [no, on, yes]}"), "f.yaml", nothing)
    assert rules.plain[0].spec.match.keywords == ["no", "on", "yes"]


@pytest.mark.parametrize(
    ("only", "queue", "tenant", "model", "applies"),
    [
        ("{tenants: [acme]}", "q", "acme", "m", True),
        ("{tenants: [acme]}", "q", "other", "m", False),
        ("{tenants: ['*']}", "q", None, "m", False),
        ("{queues: ['llm-*'], models: [m]}", "llm-chat", None, "m", True),
        ("{queues: ['llm-*'], models: [m]}", "llm-chat", None, "n", False),
        ("{queues: ['llm-*']}", "q", None, "m", False),
    ],
)
async def test_a_rule_is_for_some_jobs(
    tmp_path: Path, only: str, queue: str, tenant: str | None, model: str, applies: bool
) -> None:
    """By tenant, queue and model, all of which must fit; a job without a tenant is no tenant's."""
    async with bench(tmp_path, one(only=only)) as made:
        outcome = await made.input(generate("secret", tenant=tenant, model=model), queue)
        assert isinstance(outcome, Blocked) is applies


@pytest.mark.parametrize(
    ("entities", "says"),
    [
        ("US_PASSPORT", "Presidio isn't installed: pip install 'llm-worker-pool[worker,presidio]'"),
        ("EMAIL_ADDRESS", "looks things up online: use detector: email"),
    ],
)
def test_presidio_that_cannot_be_had_stops_the_start(monkeypatch: pytest.MonkeyPatch, entities: str, says: str) -> None:
    """A rule that asks for it without the extra is refused with the command that installs it."""
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    with pytest.raises(RulesError) as caught:
        read_rules(one(match=f"{{presidio: {{entities: [{entities}]}}}}"), "f.yaml", make_analyzer)
    assert "f.yaml: rule r: match.presidio: " in str(caught.value)
    assert says in str(caught.value)


async def test_a_changed_file_is_taken_and_a_broken_one_refused(tmp_path: Path) -> None:
    """After a change new jobs meet the new rules; a broken or vanished file is told once and changes nothing."""
    async with bench(tmp_path, one(id="old")) as made:
        replace(made.path, one(id="new"))
        await made.filters.turn()
        assert await made.input(generate("secret")) == Blocked("new", "rule new blocks the job's text")
        with capture_logs() as logs:
            replace(made.path, one(action="stop"))
            await made.filters.turn()
            await made.filters.turn()
            made.path.unlink()
            await made.filters.turn()
        assert [line["event"] for line in logs] == ["filter_rules_refused"] * 2
        assert "action: got 'stop'" in logs[0]["error"]
        assert await made.input(generate("secret")) == Blocked("new", "rule new blocks the job's text")


def replace(path: Path, text: str) -> None:
    """As a ConfigMap's volume does it: another file in the old one's place."""
    other = path.with_suffix(".new")
    other.write_text(text)
    other.replace(path)


@pytest.mark.parametrize("content", [None, b"\xff", b"#" * 1_048_577], ids=["missing", "not-utf8", "too-long"])
def test_a_file_that_cannot_be_read_stops_the_start(tmp_path: Path, content: bytes | None) -> None:
    """The settings name a file: without it there is no worker."""
    path = tmp_path / "rules.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RulesError, match=r"rules\.yaml: "):
        make_filters(load({"filter_rules": str(path)}))


def first_column(header: str) -> list[str]:
    """Of a table in docs/filters.md, by the name of that column."""
    blocks = text_of("docs/filters.md").split("\n\n")
    block = next(block for block in blocks if block.startswith(f"| {header} |"))
    return [bare(row[header]) for row in table(block, header)]


def test_the_document_has_every_field_and_detector() -> None:
    """docs/filters.md has the fields of a rule, the actions, what can be matched and the detectors, and no others."""
    assert first_column("Field") == list(RuleSpec.model_fields)
    assert first_column("`action`") == list(Action)
    assert first_column("`match`") == [name for name in MatchSpec.model_fields if name != "case_sensitive"]
    assert first_column("`detector`") == list(DETECTORS) == list(get_args(DetectorName))
