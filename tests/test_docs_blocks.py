"""Code that documents show can be used as it stands: Python, JSON and YAML are read, jobs are taken."""

import ast
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tools.markdown import fences

from llmpool_contract import parse_job
from llmpool_contract.pool import parse_pool
from tests.test_documents import DOCUMENTS, ROOT, table, text_of

PUSHED = re.compile(r"RPUSH \S+ '(\{.*?\})'", re.DOTALL)
SHORTENED = "…"


def blocks(document: str | Path, *languages: str) -> list[str]:
    return [fence.text for fence in fences(text_of(document)) if fence.language in languages]


def missing_names(code: str) -> Iterator[str]:
    """Names that a piece of Python imports from our packages and that aren't there. Raises SyntaxError."""
    for node in ast.walk(compile(code, "<document>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("llmpool_"):
            module = importlib.import_module(node.module or "")
            yield from (alias.name for alias in node.names if not hasattr(module, alias.name))


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_python_is_python_and_imports_what_there_is(document):
    """Each Python block compiles, and what it imports from our packages exists."""
    assert [name for code in blocks(document, "python") for name in missing_names(code)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_json_and_yaml_can_be_read(document):
    """Each JSON and YAML block is JSON or YAML."""
    for text in blocks(document, "json"):
        json.loads(text)
    for text in blocks(document, "yaml", "yml"):
        list(yaml.safe_load_all(text))


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_pools_shown_are_pools(document):
    """Each pool that a document shows whole is one that the operator and `llmpool local` take."""
    for text in blocks(document, "yaml", "yml"):
        for part in yaml.safe_load_all(text):
            if isinstance(part, dict) and part.get("kind") == "LLMWorkerPool":
                parse_pool(part)


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_jobs_shown_are_jobs(document):
    """Each whole job that a document pushes is one that a worker takes."""
    for body in PUSHED.findall(text_of(document)):
        if SHORTENED not in body:
            parse_job(body.encode())


def test_words_are_in_order():
    """The glossary has each word once, in the order of the alphabet."""
    words = [row["Word"] for row in table(text_of("docs/glossary.md"), "Word")]
    assert words == sorted(set(words), key=lambda word: (word.lower(), word))


def test_examples_of_producers_are_all_listed():
    """Each program in examples/producers is in its README."""
    folder = ROOT / "examples" / "producers"
    listed = text_of("examples/producers/README.md")
    programs = [path.name for path in folder.iterdir() if not path.name.startswith(".") and path.name != "README.md"]
    assert [name for name in programs if f"]({name}" not in listed] == []
