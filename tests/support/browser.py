"""Headless Chromium that notes what it must not do: say errors on its console, or ask anybody but the page's server."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.async_api import Browser, ConsoleMessage, Dialog, Page, async_playwright

WAIT_MS = 30_000


def chromium_program() -> str | None:
    """Its path; None: there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@dataclass
class Visit:
    """One page, and what it did."""

    page: Page
    origin: str
    complaints: list[str] = field(default_factory=list)
    """Errors of scripts and of the console, dialogs, and requests to other origins."""

    def console(self, said: ConsoleMessage) -> None:
        if said.type in ("error", "warning"):
            self.complaints.append(f"console: {said.text}")

    async def dialog(self, opened: Dialog) -> None:
        self.complaints.append(f"dialog: {opened.message}")
        await opened.dismiss()

    async def text(self, selector: str) -> str:
        return (await self.page.locator(selector).inner_text()).strip()

    async def shows(self, selector: str, words: str) -> None:
        """Wait until an element has these words."""
        await self.page.locator(selector, has_text=words).first.wait_for(timeout=WAIT_MS)

    async def is_true(self, expression: str) -> None:
        """Wait until a JavaScript expression is true."""
        await self.page.wait_for_function(expression, timeout=WAIT_MS)


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """A Chromium with nothing stored."""
    program = chromium_program()
    assert program is not None
    root = ["--no-sandbox"] if os.getuid() == 0 else []
    arguments = [*root, "--disable-dev-shm-usage", "--no-proxy-server"]
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=program, args=arguments)
        try:
            yield started
        finally:
            await started.close()


async def visit(browser: Browser, url: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> Visit:
    """Open a page."""
    context = await browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
    )
    page = await context.new_page()
    parts = urlsplit(url)
    seen = Visit(page, f"{parts.scheme}://{parts.netloc}")
    page.on("pageerror", lambda error: seen.complaints.append(f"script: {error}"))
    page.on("console", seen.console)
    page.on("request", lambda asked: _check(seen, asked.url))
    page.on("dialog", seen.dialog)
    await page.goto(url)
    return seen


def _check(seen: Visit, url: str) -> None:
    if not url.startswith(f"{seen.origin}/"):
        seen.complaints.append(f"asked {url}")
