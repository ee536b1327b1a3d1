"""Debug mode tells where time goes, and never what was said."""

import asyncio
import time

import pytest
import structlog

from llmpool_worker.settings import load
from llmpool_worker.telling.channels import make_channels
from llmpool_worker.telling.debug import FRAMES, LoopWatch, Timeline, times_of, where
from tests.support.telling import Counts, event
from tests.support.waiting import eventually


def test_a_timeline_has_the_times_that_are_known():
    """Each phase that happened in seconds, and the speed; what isn't known is left out."""
    told = times_of(event(load_s=1.0, eval_s=2.0, output_tokens=10))
    assert told == {"load_s": 1.0, "eval_s": 2.0, "running_s": 2.0, "tokens_per_s": 5.0}


@pytest.mark.parametrize(("share", "lines"), [(0.0, 0), (1.0, 1)])
def test_timelines_are_of_the_sample(share, lines):
    """PERFORMANCE_SAMPLE_RATE says whose timeline is logged."""
    with structlog.testing.capture_logs() as logs:
        Timeline(share)(event())
    assert [line["event"] for line in logs] == ["job_timeline"] * lines


async def test_a_loop_that_was_held_up_is_told_with_the_place():
    """How long, and in which function; the values that it worked on aren't there."""

    def slow_step(secret: str) -> None:
        ended = time.monotonic() + 0.3
        while time.monotonic() < ended:
            len(secret)

    watch = LoopWatch(slow_s=0.1)
    watch.start()
    with structlog.testing.capture_logs() as logs:
        await asyncio.sleep(0.05)
        slow_step("a prompt")

        async def told() -> bool:
            return bool(logs)

        await eventually(told, 5, "the hold-up in the log")
    await watch.aclose()
    (line,) = logs
    assert (line["event"], watch.state()["held_up"]) == ("loop_held_up", 1)
    assert line["seconds"] >= 0.1
    assert any("slow_step" in step for step in line["where"])
    assert "a prompt" not in str(line)


def test_places_are_bounded():
    """However deep the calls, a line has a few of them."""

    def deep(n: int) -> list[str]:
        return deep(n - 1) if n else where(__import__("sys")._getframe())

    found = deep(50)
    assert (len(found), where(None)) == (FRAMES, [])


async def test_without_settings_there_is_nobody_to_tell():
    """No hook, no task, nothing in health: who wants none of it pays for none of it."""
    channels = make_channels(load({}), Counts(), "1.0")
    channels.start()
    assert (channels.hooks, channels.state()) == ([], {"telling": {}})
    await channels.aclose(1)


async def test_every_channel_by_its_setting():
    """Each setting brings its channel; with nobody at the addresses all of them end within their bound."""
    nowhere = "http://127.0.0.1:1/hook"
    settings = load(
        {
            "kafka_brokers": "127.0.0.1:1",
            "otel_exporter_otlp_endpoint": nowhere,
            "notify_url": nowhere,
            "analytics_url": nowhere,
            "enable_debug_mode": True,
            "performance_sample_rate": 1.0,
        }
    )
    counts = Counts()
    channels = make_channels(settings, counts, "1.0")
    channels.start()
    for hook in channels.hooks:
        hook(event(outcome="failed"))
    channels.buried_unread("llm-chat", 1)
    state = channels.state()
    assert state["telling"].keys() == {"kafka", "tracing", "notifications", "analytics"}
    assert state["debug"].keys() == {"held_up", "longest_seconds", "tasks"}
    async with asyncio.timeout(10):
        await channels.aclose(0.5)
    assert (counts["sent"], counts["dropped"]) == (0, 6)
