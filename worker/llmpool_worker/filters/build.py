"""From settings to limits and filters."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from llmpool_worker.settings import Settings

from .file import RulesFile
from .findings import Counted
from .front import Filters, uncounted
from .hook import Hook, HookSettings
from .limits import Limits
from .presidio import make_analyzer
from .rules import read_rules
from .spec import Stage


def make_limits(s: Settings) -> Limits:
    """What one job may ask for."""
    return Limits(
        messages=s.max_messages,
        input_chars=s.max_input_chars,
        images=s.max_images,
        image_bytes=s.max_image_bytes,
        predict=s.max_predict,
        embed_inputs=s.max_embed_inputs,
    )


def make_filters(s: Settings, counted: Counted = uncounted) -> Filters:
    """What the settings ask for. Raises RulesError for a rules file that can't be used."""
    if s.filter_rules is None and s.filter_hook_url is None:
        return Filters.none()
    rules = None
    if s.filter_rules is not None:
        rules = RulesFile(Path(s.filter_rules), partial(read_rules, make_analyzer=make_analyzer))
    return Filters(rules, _make_hook(s), counted)


def _make_hook(s: Settings) -> Hook | None:
    if s.filter_hook_url is None:
        return None
    return Hook(
        HookSettings(
            url=s.filter_hook_url,
            timeout_s=s.filter_hook_timeout / 1_000,
            fails_open=s.filter_hook_fail == "open",
            on=frozenset(Stage) if s.filter_hook_on == "both" else frozenset({Stage(s.filter_hook_on)}),
            connections=s.worker_concurrency,
        )
    )
