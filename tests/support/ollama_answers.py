"""The bodies of Ollama's API, made from the request alone: the same request always gets the same answer."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice
from typing import Any

from tests.support.ollama_scheduler import Waits

NS = 1_000_000_000
DURATION = re.compile(r"-?(\d+(\.\d+)?(ns|us|ms|s|m|h))+")
DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)")
UNIT_S = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
LOAD_NS, PROMPT_NS_PER_WORD = 2_000_000, 100_000


class BadRequestError(ValueError):
    """What Ollama refuses before it starts; `status` is the answer's."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def answer_tokens(path: str, body: Mapping[str, Any], natural: int) -> tuple[list[str], str]:
    """The answer's tokens and its done_reason: the prompt's last words over and over, `natural` of them unless
    `options.num_predict` cuts it shorter."""
    words = answer_words(path, body)
    limit = int((body.get("options") or {}).get("num_predict") or 0)
    cut = 0 < limit < natural
    count = limit if cut else natural
    return [f"{word} " for word in islice(cycle(words), count)], "length" if cut else "stop"


def answer_words(path: str, body: Mapping[str, Any]) -> list[str]:
    return _prompt(path, body).split()[-16:] or ["yes"]


def prompt_words(path: str, body: Mapping[str, Any]) -> int:
    return len(_prompt(path, body).split())


def _prompt(path: str, body: Mapping[str, Any]) -> str:
    if path.endswith("/generate"):
        return str(body.get("prompt") or "")
    return str((body.get("messages") or [{}])[-1].get("content") or "")


def text_part(path: str, model: str, text: str) -> dict[str, Any]:
    """One piece of a chat's or a generation's answer."""
    head = {"model": model, "created_at": _timestamp(datetime.now(UTC))}
    if path.endswith("/generate"):
        return {**head, "response": text, "done": False}
    return {**head, "message": {"role": "assistant", "content": text}, "done": False}


def final_part(prompt: int, tokens: int, delay_s: float, reason: str, waits: Waits) -> dict[str, Any]:
    """The counters of the last object; durations in nanoseconds, zeros left out as Ollama leaves them out."""
    load_ns = LOAD_NS + int(waits.load_s * NS)
    prompt_ns = prompt * PROMPT_NS_PER_WORD
    eval_ns = int(tokens * max(delay_s, 1e-5) * NS)
    counters = {
        "total_duration": load_ns + int(waits.slot_s * NS) + prompt_ns + eval_ns,
        "load_duration": load_ns,
        "prompt_eval_count": prompt,
        "prompt_eval_duration": prompt_ns,
        "eval_count": tokens,
        "eval_duration": eval_ns,
    }
    return {"done": True, "done_reason": reason, **{name: value for name, value in counters.items() if value}}


def input_texts(given: Any) -> list[str]:
    if isinstance(given, str):
        return [given]
    if isinstance(given, list) and all(isinstance(text, str) for text in given):
        return given
    raise BadRequestError("invalid input type")


def embeddings(texts: Sequence[str], dimensions: int) -> list[list[float]]:
    """A vector of length 1 for each text, made from its hash."""
    return [_vector(text, dimensions) for text in texts]


def _vector(text: str, dimensions: int) -> list[float]:
    raw = hashlib.shake_256(text.encode()).digest(2 * dimensions)
    values = [int.from_bytes(raw[2 * i : 2 * i + 2], "big") / 32767.5 - 1 for i in range(dimensions)]
    length = math.sqrt(sum(value * value for value in values)) or 1.0
    return [value / length for value in values]


def keep_alive_seconds(given: Any) -> float | None:
    """A number is seconds, a string a Go duration (so "-1" is refused); None where none is given."""
    if given is None:
        return None
    if isinstance(given, int | float) and not isinstance(given, bool):
        return float(given)
    if given == "0":
        return 0.0
    if not isinstance(given, str) or not DURATION.fullmatch(given):
        raise BadRequestError(f'time: missing unit in duration "{given}"')
    seconds = sum(float(number) * UNIT_S[unit] for number, unit in DURATION_PART.findall(given))
    return -seconds if given.startswith("-") else seconds


def model_details(name: str, capabilities: Sequence[str], size: int, *, loaded: bool = False) -> dict[str, Any]:
    """One entry of /api/tags, of /api/ps (`loaded`), and the answer of /api/show. `size` in bytes."""
    now = datetime.now(UTC)
    entry: dict[str, Any] = {
        "name": name,
        "model": name,
        "size": size,
        "digest": hashlib.sha256(name.encode()).hexdigest(),
        "details": {"format": "gguf", "family": "scripted", "families": ["scripted"], "parameter_size": "270M"},
    }
    if loaded:
        return {
            **entry,
            "size_vram": size,
            "context_length": 4096,
            "expires_at": _timestamp(now + timedelta(minutes=5)),
        }
    return {**entry, "modified_at": _timestamp(now), "capabilities": list(capabilities)}


def pull_lines(name: str, size: int, steps: int = 4) -> list[dict[str, Any]]:
    """What /api/pull says on its way, the word that it is whole included."""
    digest = f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"
    layer = {"status": f"pulling {digest[7:19]}", "digest": digest, "total": size}
    parts = [{**layer, "completed": size * n // steps} for n in range(1, steps + 1)]
    last = [{"status": status} for status in ("verifying sha256 digest", "writing manifest", "success")]
    return [{"status": "pulling manifest"}, layer, *parts, *last]


def _timestamp(when: datetime) -> str:
    return when.isoformat().replace("+00:00", "Z")
