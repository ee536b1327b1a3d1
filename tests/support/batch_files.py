"""Files of requests in OpenAI's Batch format."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

CHAT_URL = "/v1/chat/completions"


def chat_body(text: str = "hello there", **fields: Any) -> dict[str, Any]:
    return {"model": "gemma3:270m", "messages": [{"role": "user", "content": text}], **fields}


def line(custom_id: Any, body: Any = None, url: Any = CHAT_URL, **fields: Any) -> dict[str, Any]:
    request = {"custom_id": custom_id, "method": "POST", "url": url, "body": chat_body() if body is None else body}
    return request | fields


def write(path: Path, lines: Iterable[Any]) -> Path:
    """A line that is a string is written as it is."""
    texts = (each if isinstance(each, str) else json.dumps(each) for each in lines)
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def chats(path: Path, count: int) -> Path:
    return write(path, (line(f"request {n}", chat_body(f"say {n}")) for n in range(count)))
