"""The site of the documents: whole, self-contained, and searchable without a server."""

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, sync_playwright
from tools.pictures import IMAGES, PICTURES

from tests.test_documents import ROOT

PAGES = sorted(path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md"))
SEARCHED = "stabilisation window"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make site` builds it, in strict mode: a broken link or a page without a place in the menu fails."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_document_is_a_page(site):
    """Each file of docs/ is a page, and so are the documents at the repository's root."""
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    wanted = {re.sub(r"(^|/)README\.md$", r"\1index.md", page)[:-3] + ".html" for page in PAGES}
    wanted |= {f"repository/{name}.html" for name in ("CONTRIBUTING", "SECURITY", "CHANGELOG")}
    assert wanted - pages == set()


def test_pages_load_nothing_from_elsewhere(site):
    """No page has a script, style, font, frame or picture of another host."""
    loaded = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=\"?(?:https?:)?//[^\s>]*")
    found = {f"{page.name}: {tag[0]}" for page in site.rglob("*.html") for tag in loaded.finditer(page.read_text())}
    assert found == set()


def test_links_of_the_site_lead_to_its_files(site):
    """Each link of a page, to files from outside docs/ too, leads to a file of the site."""
    broken = set()
    for page in site.rglob("*.html"):
        if page.name == "404.html":
            continue  # its links begin at the site's root
        for target in re.findall(r'\b(?:href|src)="?([^\s">]+)', page.read_text()):
            parts = urlsplit(target)
            if not parts.scheme and parts.path and not (page.parent / unquote(parts.path)).exists():
                broken.add(f"{page.relative_to(site)}: {target}")
    assert broken == set()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a screen."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on PATH: the site isn't tried in a browser")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=sandbox)
        yield started
        started.close()


def test_pages_and_search_work_as_files(site, browser):
    """Opened from the file system, a page shows its picture, the search finds, and nothing is asked of any host."""
    asked, errors = [], []
    page = browser.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((site / "index.html").as_uri())
    assert page.evaluate("[...document.images].map(image => image.naturalWidth > 0)") == [True]
    page.keyboard.press("/")
    page.keyboard.type(SEARCHED)
    page.wait_for_selector(".md-search-result__item a", timeout=60_000)
    found = page.eval_on_selector_all(".md-search-result__item a", "all => all.map(a => a.href)")
    assert any("scaling.html" in link for link in found)
    assert ([url for url in asked if not url.startswith(("file:", "data:", "blob:"))], errors) == ([], [])
    page.close()


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_drawn_by_the_tool(name):
    """docs/img has what `make docs` draws: an SVG with a title and a description, all of it within the picture."""
    text = (IMAGES / name).read_text(encoding="utf-8")
    assert text == PICTURES[name]()
    picture = ET.fromstring(text)
    width, height = int(picture.attrib["width"]), int(picture.attrib["height"])
    kinds = [part.tag.rsplit("}", 1)[-1] for part in picture]
    assert kinds[:2] == ["title", "desc"]
    for part in picture:
        if part.tag.endswith("}rect") and "x" in part.attrib:
            assert int(part.attrib["x"]) + int(part.attrib["width"]) <= width
            assert int(part.attrib["y"]) + int(part.attrib["height"]) <= height
