"""Hooks of MkDocs (mkdocs.yml): what the site takes from outside docs/, and how links get there.

Pages link to files of the repository as its readers see them (``../examples/pool.yaml``). On the site such a file is
a page or a file under ``repository/``. A folder has no page there: its README stands for it, else its first page; the
text of a link to a folder without pages stays alone.
"""

from __future__ import annotations

import fnmatch
import os
import posixpath
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from tools.markdown import links

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = "repository"
"""The folder of the site that holds files from outside docs/."""
ALWAYS = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
_TEXT_LINK = r"\[(?P<text>[^\[\]]*)\]\($"


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the files that pages link to, theirs included, and fill in the lists of pages in the navigation."""
    wanted, seen = list(ALWAYS), set()
    for page in files.documentation_pages():
        wanted += _outside(page.src_uri, page.content_string)
    while wanted:
        if (name := wanted.pop()) in seen:
            continue
        seen.add(name)
        files.append(_file(name, config))
        if name.endswith(".md"):
            wanted += _outside(f"{OUTSIDE}/{name}", (ROOT / name).read_text(encoding="utf-8"))
    config.nav = _filled(config.nav, sorted(page.src_uri for page in files.documentation_pages()), _named(config.nav))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_given: object) -> str:
    """Links to files of the repository lead to their places on the site."""
    source = page.file.src_uri
    for link in reversed(links(markdown)):
        path = _repository_path(source, link.target)
        if path is None:
            continue
        if place := _place(path):
            away = posixpath.relpath(place, posixpath.dirname(source) or ".")
            anchor = urlsplit(link.target).fragment
            target = f"{away}#{anchor}" if anchor else away
            markdown = markdown[: link.start] + target + markdown[link.end :]
        elif found := re.search(_TEXT_LINK, markdown[: link.start]):
            markdown = markdown[: found.start()] + found["text"] + markdown[link.end + 1 :]
    return markdown


def _file(name: str, config: MkDocsConfig) -> File:
    return File.generated(config, f"{OUTSIDE}/{name}", abs_src_path=os.fspath(ROOT / name))


def _outside(source: str, markdown: str) -> list[str]:
    """The files outside docs/ that a page of the site links to, as paths in the repository."""
    paths = (_repository_path(source, link.target) for link in links(markdown))
    places = (_place(path) for path in paths if path is not None)
    return [place.removeprefix(f"{OUTSIDE}/") for place in places if place and place.startswith(f"{OUTSIDE}/")]


def _repository_path(source: str, target: str) -> str | None:
    """What a link of a page means in the repository. None: another site, or an anchor of the page itself."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc or not parts.path:
        return None
    home = source.removeprefix(f"{OUTSIDE}/") if source.startswith(f"{OUTSIDE}/") else f"docs/{source}"
    return posixpath.normpath(posixpath.join(posixpath.dirname(home), parts.path))


def _place(path: str) -> str | None:
    """Where a file of the repository is on the site. None: a folder without pages."""
    if (ROOT / path).is_dir():
        pages = sorted((ROOT / path).glob("*.md"), key=lambda page: (page.name != "README.md", page.name))
        return _place(f"{path}/{pages[0].name}") if pages else None
    return path.removeprefix("docs/") if path.startswith("docs/") else f"{OUTSIDE}/{path}"


def _named(nav: Any) -> set[str]:
    """The pages that the navigation names one by one."""
    if isinstance(nav, str):
        return {nav}
    parts = nav.values() if isinstance(nav, dict) else nav or ()
    return set().union(*(_named(part) for part in parts))


def _filled(nav: Any, pages: list[str], named: set[str]) -> Any:
    """The navigation with each ``folder/*.md`` replaced by the pages there that it doesn't name."""
    if isinstance(nav, dict):
        return {title: _filled(part, pages, named) for title, part in nav.items()}
    if not isinstance(nav, list):
        return nav
    filled: list[Any] = []
    for part in nav:
        if isinstance(part, str) and "*" in part:
            filled += [page for page in fnmatch.filter(pages, part) if page not in named]
        else:
            filled.append(_filled(part, pages, named))
    return filled
