"""The operator's page in a real browser: it shows, it follows, and nothing that anybody named can do harm."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.support.browser import browser, chromium_program, visit
from tests.support.control_plane import ControlPlane
from tests.support.operator_process import OperatorProcess, Pools
from tests.support.redis_server import RedisServer
from tests.support.web_pool import HOSTILE, SECRET, bury, tell

pytestmark = [
    pytest.mark.control_plane,
    pytest.mark.skipif(chromium_program() is None, reason="no chromium on PATH (tools/chromium installs it)"),
]


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    async with browser() as started:
        yield started


@pytest.fixture
async def operator(
    pools: Pools, control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> AsyncIterator[OperatorProcess]:
    """An operator with one pool that has a worker's worth of work."""
    await pools.make("chat", redis_url, scaling={"idleSeconds": 600})
    with OperatorProcess(control_plane.kubeconfig, pools.namespace, tmp_path / "operator.log") as started:
        await asyncio.to_thread(started.listens)
        yield started


async def test_the_page_follows_a_pool(
    operator: OperatorProcess, pools: Pools, chromium: Browser, redis_server: RedisServer
) -> None:
    """A pool is on the page; a job that is pushed shows without a reload; what breaks is said, and it comes back."""
    seen = await visit(chromium, f"http://127.0.0.1:{operator.port}/")
    await seen.shows("#pools tbody th", "chat")
    await seen.shows("#live", "Live")
    assert await seen.text("#role") == "leader"
    with redis_server.client() as client:
        client.rpush("llm-chat", *["{}"] * 12)
    await seen.shows("#pools td[data-label=Queued]", "12")
    await seen.shows("#pools td[data-label=Desired]", "3")
    await seen.shows("#changes td[data-label=Workers]", "0 → 3")
    assert await seen.text("#pools td[data-label=GPU]") == "\N{EN DASH}"  # missing is never zero
    assert seen.complaints == []

    operator.child.stop()
    await seen.shows("#live", "Stale since")
    await seen.shows("#banner", "Stale since")
    operator.child.start()
    await seen.shows("#live", "Live")
    await seen.shows("#pools td[data-label=Queued]", "12")


async def test_hostile_names_do_no_harm(
    operator: OperatorProcess, pools: Pools, chromium: Browser, redis_server: RedisServer
) -> None:
    """Markup in names of workers and models, in ids and reasons of dead letters, is shown as the text that it is; no
    script runs, nobody else is asked, and no body of a dead letter reaches the page."""
    pool = f"{pools.namespace}/chat"
    with redis_server.client() as client:
        bury(client, "llm-chat", id=HOSTILE, reason=f"{HOSTILE}\u202e\n", code=HOSTILE)
    writing = asyncio.create_task(_keep_telling(redis_server, pool))
    try:
        seen = await visit(chromium, f"http://127.0.0.1:{operator.port}/#pool={pools.namespace}%2Fchat")
        await seen.shows("#workers tbody th", HOSTILE)
        await seen.shows("#workers td[data-label='In memory']", HOSTILE)
        await seen.shows("#letters td[data-label=Job]", HOSTILE)
        assert await seen.text("#letters td[data-label=Attempts]") == "2"
        assert await seen.page.locator("main img, main script, main iframe").count() == 0
        assert await seen.page.title() == "LLM Worker Pool"
        assert SECRET not in await seen.page.content()
        await seen.page.goto(f"{seen.origin}/#pool={HOSTILE}")
        await seen.shows("#summary", "There is no such pool")
        assert seen.complaints == []
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_a_narrow_screen_and_a_keyboard_are_enough(
    operator: OperatorProcess, pools: Pools, chromium: Browser, dark: bool
) -> None:
    """At 360 pixels nothing runs out of the screen to the side, and a pool is opened and closed without a pointer."""
    seen = await visit(chromium, f"http://127.0.0.1:{operator.port}/", width=360, height=740, dark=dark)
    await seen.shows("#pools tbody th", "chat")
    await seen.page.locator("#pools tbody th a").focus()
    await seen.page.keyboard.press("Enter")
    await seen.shows("#conditions tbody th", "Ready")
    assert await seen.page.evaluate("document.activeElement.id") == "detail-heading"
    assert await seen.page.evaluate("document.documentElement.scrollWidth") <= 360
    await seen.page.locator("#close").focus()
    await seen.page.keyboard.press("Enter")
    await seen.is_true("document.getElementById('detail').hidden")
    assert seen.complaints == []


async def test_a_filter_finds_nothing_and_something(operator: OperatorProcess, chromium: Browser) -> None:
    """The filter leaves the pools that it fits, and says so where none does; sorting is told to screen readers."""
    seen = await visit(chromium, f"http://127.0.0.1:{operator.port}/")
    await seen.shows("#pools tbody th", "chat")
    await seen.page.fill("#filter", "no-such-pool")
    await seen.shows("#pools .empty", "No pool fits the filter.")
    await seen.page.fill("#filter", "CHA")
    await seen.shows("#pools tbody th", "chat")
    await seen.page.get_by_role("button", name="Queued").click()
    await seen.is_true("document.querySelector('#pools th[aria-sort=descending]')?.textContent === 'Queued'")
    assert seen.complaints == []


async def _keep_telling(server: RedisServer, pool: str) -> None:
    while True:
        await asyncio.to_thread(tell, server, pool, (HOSTILE, {"resident_models": [HOSTILE]}))
        await asyncio.sleep(0.5)
