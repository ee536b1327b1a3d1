"""What a job may ask at most, and what its text and its answer are checked for."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from llmpool_contract.job import MAX_INPUTS
from llmpool_contract.job import MAX_MESSAGES as MOST_MESSAGES


class FilterSettings(BaseModel):
    """Limits on jobs' content, rules and the hook."""

    max_messages: int = Field(default=MOST_MESSAGES, ge=1, le=MOST_MESSAGES)
    """[messages] Of a chat job; more: `invalid`, as with the next five"""
    max_input_chars: int = Field(default=1_000_000, ge=1, le=64 * 1_048_576)
    """[characters] All text of a job together, tools and the answer's schema as JSON among it"""
    max_images: int = Field(default=64, ge=0, le=16 * MOST_MESSAGES)
    """[images] Of a job, those of all messages together"""
    max_image_bytes: int = Field(default=20 * 1_048_576, ge=1, le=64 * 1_048_576)
    """One image, decoded. `JOB_MAX_BYTES` bounds all of them, as Base64, much earlier unless it is raised"""
    max_predict: int = Field(default=1_000_000, ge=1, le=1_000_000)
    """[tokens] The most that a job may ask for by `options.num_predict`"""
    max_embed_inputs: int = Field(default=MAX_INPUTS, ge=1, le=MAX_INPUTS)
    """[inputs] Texts of an embed job"""
    filter_rules: str | None = None
    """A YAML file of [content rules](filters.md). A broken one stops the start; a change is taken within seconds, a
    broken change is refused and logged"""
    filter_hook_url: str | None = Field(default=None, pattern=r"^https?://[^\s/@]+(/\S*)?$")
    """An HTTP service that is [asked about each text](filters.md), without user or password"""
    filter_hook_timeout: int = Field(default=2_000, ge=50, le=60_000)
    """One question to the hook, its wait for a free connection included"""
    filter_hook_fail: Literal["open", "closed"] = "closed"
    """`closed`: without the hook's word a job waits; `open`: it goes on, flagged `hook_unavailable`"""
    filter_hook_on: Literal["input", "output", "both"] = "input"
    """What the hook sees. `output` holds a stream back until the answer is whole"""
