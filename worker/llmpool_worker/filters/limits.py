"""How much one job may ask for. Pure."""

from __future__ import annotations

import binascii
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llmpool_contract import BadJob, Job

IMAGE_BEGINNINGS = {
    "png": b"\x89PNG\r\n\x1a\n",
    "jpeg": b"\xff\xd8\xff",
    "gif": b"GIF8",
}
"""First bytes of the image types that model servers read (W3C PNG, ITU T.81, GIF89a). WebP is a RIFF file."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most of each; a job may have as much, not more."""

    messages: int
    input_chars: int
    images: int
    image_bytes: int
    predict: int
    embed_inputs: int


def exceeded(job: Job, limits: Limits) -> BadJob | None:
    """What is too much or no image, as a fault ``invalid``: field, number, limit, never any of the job's text."""
    reason = _too_many(job, limits) or _bad_image(job, limits)
    return BadJob("invalid", reason, job.id) if reason else None


def _too_many(job: Job, limits: Limits) -> str | None:
    # Most jobs are a few short messages, and asked for by the thousand.
    counts = (
        ("messages", len(job.messages or ()), limits.messages, "MAX_MESSAGES"),
        ("job", _characters(job), limits.input_chars, "characters of text, MAX_INPUT_CHARS"),
        ("images", sum(1 for _ in _images(job)), limits.images, "MAX_IMAGES"),
        ("options.num_predict", (job.options and job.options.num_predict) or 0, limits.predict, "MAX_PREDICT"),
        ("input", len(job.input) if isinstance(job.input, list) else 1, limits.embed_inputs, "MAX_EMBED_INPUTS"),
    )
    return next(
        (f"{field}: got {got}, allowed are {most} ({what})" for field, got, most, what in counts if got > most), None
    )


def _characters(job: Job) -> int:
    texts = [job.input] if isinstance(job.input, str) else list(job.input or ())
    texts += [job.prompt or "", job.system or ""]
    for message in job.messages or ():
        texts += [message.content, message.thinking or ""]
    schemas = (job.tools, job.format, [message.tool_calls for message in job.messages or () if message.tool_calls])
    return sum(map(len, texts)) + sum(_json_characters(schema) for schema in schemas if schema)


def _json_characters(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _images(job: Job) -> Iterator[tuple[str, str]]:
    """(field, Base64) of every image."""
    for at, image in enumerate(job.images or ()):
        yield f"images.{at}", image
    for turn, message in enumerate(job.messages or ()):
        for at, image in enumerate(message.images or ()):
            yield f"messages.{turn}.images.{at}", image


def _bad_image(job: Job, limits: Limits) -> str | None:
    for field, image in _images(job):
        # Base64 has three bytes in four characters, so what is too large is known before it is decoded.
        size = len(image) * 3 // 4 - image[-2:].count("=")
        if size > limits.image_bytes:
            return f"{field}: got {size} bytes, allowed are {limits.image_bytes} (MAX_IMAGE_BYTES)"
        if problem := _not_an_image(image):
            return f"{field}: got {len(image)} characters that are {problem}"
    return None


def _not_an_image(image: str) -> str | None:
    if image.startswith("data:"):
        return "a data: address, wanted is Base64 alone"
    try:
        data = binascii.a2b_base64(image, strict_mode=True)
    except ValueError:  # binascii.Error is one; so is what a character beyond ASCII raises
        return "no Base64"
    is_webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    if is_webp or data.startswith(tuple(IMAGE_BEGINNINGS.values())):
        return None
    return f"no image, allowed are {', '.join(IMAGE_BEGINNINGS)} and webp"
