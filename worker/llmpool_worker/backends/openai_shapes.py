"""Our jobs and tool calls, which have Ollama's shapes, in those of OpenAI's API, and back. Pure."""

from __future__ import annotations

import json
from typing import Any

from llmpool_contract import Job, Message

_OPTION_NAMES = {"num_predict": "max_tokens"}
"""Our names are Ollama's; where OpenAI's differ. The others (top_k, min_p, ...) are the servers' common extensions."""


class ToolCallParts:
    """Puts tool calls together, whose arguments come in pieces by index, and hands them on in Ollama's shape."""

    def __init__(self) -> None:
        self._parts: dict[int, dict[str, str]] = {}

    def add(self, deltas: list[dict[str, Any]]) -> None:
        """Pieces, as one chunk of the answer has them."""
        for delta in deltas:
            part = self._parts.setdefault(int(delta.get("index", 0)), {"id": "", "name": "", "arguments": ""})
            function = delta.get("function") or {}
            part["id"] = part["id"] or delta.get("id") or ""  # some servers repeat it in each piece
            part["name"] += function.get("name") or ""
            part["arguments"] += function.get("arguments") or ""

    def whole(self) -> list[dict[str, Any]]:
        """All calls, once there are no more pieces."""
        return [
            {"id": part["id"], "function": {"name": part["name"], "arguments": _arguments(part["arguments"])}}
            for _, part in sorted(self._parts.items())
        ]


def _arguments(text: str) -> Any:
    try:
        return json.loads(text or "{}")
    except (ValueError, RecursionError):
        return text  # what the model wrote isn't JSON: the caller must see it as it is


def _tool_call(call: dict[str, Any]) -> dict[str, Any]:
    """A call of an earlier answer, which our results have in Ollama's shape, in OpenAI's."""
    function = dict(call.get("function") or {})
    if not isinstance(function.get("arguments"), str):
        function["arguments"] = json.dumps(function.get("arguments") or {})
    return {**call, "type": "function", "function": function}


def common_body(job: Job, model: str) -> dict[str, Any]:
    """What chat and generate have in common."""
    body: dict[str, Any] = {"model": model}
    if job.options is not None:
        options = job.options.model_dump(exclude_none=True)
        body |= {_OPTION_NAMES.get(name, name): value for name, value in options.items()}
    if job.format == "json":
        body["response_format"] = {"type": "json_object"}
    elif job.format is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": job.format}}
    if isinstance(job.think, str):
        body["reasoning_effort"] = job.think
    elif job.think is not None:
        body["chat_template_kwargs"] = {"enable_thinking": job.think}
    return body


def message_body(message: Message) -> dict[str, Any]:
    """One message; images are parts of its content."""
    body = message.model_dump(exclude_none=True, exclude={"images", "thinking", "tool_name", "tool_calls"})
    if message.tool_calls:
        body["tool_calls"] = [_tool_call(call) for call in message.tool_calls]
    if message.images:
        images = [
            {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}} for data in message.images
        ]
        body["content"] = [{"type": "text", "text": message.content}, *images]
    return body
