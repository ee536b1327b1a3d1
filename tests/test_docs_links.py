"""Links between documents lead to files that exist, and to headings that they have."""

from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from tools.markdown import anchors, fences, links

from tests.test_documents import DOCUMENTS, ROOT, text_of


@cache
def anchors_of(path: Path) -> set[str]:
    return anchors(path.read_text(encoding="utf-8"))


def fault(document: Path, target: str) -> str | None:
    """What is wrong with a link of a document; None: nothing."""
    parts = urlsplit(target)
    if parts.scheme:
        return None
    path = (ROOT / document.parent / unquote(parts.path)).resolve() if parts.path else ROOT / document
    if not path.is_relative_to(ROOT):
        return f"{target}: outside of the repository"
    if not path.exists():
        return f"{target}: no such file"
    if parts.fragment and path.suffix == ".md" and parts.fragment not in anchors_of(path):
        return f"{target}: no such heading"
    return None


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_lead_to_files_and_headings(document):
    """Each relative link and image of a document leads to a file of the repository, and to a heading of it."""
    faults = [fault(document, link.target) for link in links(text_of(document))]
    assert [told for told in faults if told] == []


@pytest.mark.parametrize(
    ("target", "told"),
    [
        pytest.param("docs/operations.md#stopping-a-worker", None, id="right"),
        pytest.param("https://semver.org/", None, id="elsewhere"),
        pytest.param("docs/operation.md", "docs/operation.md: no such file", id="no file"),
        pytest.param("docs/operations.md#stoping", "docs/operations.md#stoping: no such heading", id="no heading"),
        pytest.param("../x", "../x: outside of the repository", id="outside"),
    ],
)
def test_wrong_links_are_found(target, told):
    """The check itself finds what it is there for."""
    assert fault(Path("README.md"), target) == told


def test_markdown_is_read_as_its_renderers_do():
    """Links and headings in code are none; anchors are made as code hosts make them."""
    text = "# A job's `x`: 1\n[a](b.md)\n`[c](d)`\n```sh\n# no heading\n[e](f)\n```\n## Same\n## Same\n![i](j.svg)\n"
    assert [link.target for link in links(text)] == ["b.md", "j.svg"]
    assert anchors(text) == {"a-jobs-x-1", "same", "same-1"}
    assert [(fence.language, fence.line) for fence in fences(text)] == [("sh", 5)]
