"""From OpenAI's messages to a job's, which have Ollama's shape."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from llmpool_contract import BadJob

from .values import kind_of, refused, stray_field

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_PLAIN = frozenset({"role", "content"})
_TAKEN = {
    "system": _PLAIN,
    "developer": _PLAIN,
    "user": _PLAIN,
    "assistant": _PLAIN | {"tool_calls", "reasoning_content"},
    "tool": _PLAIN | {"tool_call_id"},
}
_DATA_URL = re.compile(r"data:image/[a-z0-9.+-]+;base64,", re.IGNORECASE)


def job_messages(given: Any) -> list[dict[str, Any]]:
    """A conversation's turns.

    Texts of one message are joined by line ends; its images, which must be data URLs, stand beside them. A tool's
    answer gets the name that the call before it has: Ollama knows tools by name, OpenAI by the call's id.

    Raises:
        BadJob: naming the message by its place.
    """
    if not isinstance(given, list):
        raise refused("messages", given, "wanted an array of messages")
    names: dict[str, str] = {}
    return [_message(f"messages.{n}", message, names) for n, message in enumerate(given)]


def _message(where: str, given: Any, names: dict[str, str]) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise refused(where, given, "wanted an object")
    there = {name: value for name, value in given.items() if value is not None}
    role = there.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise refused(f"{where}.role", role, f"allowed are {', '.join(_ROLES)}")
    if stray := there.keys() - _TAKEN[role]:
        raise stray_field(f"{where}.", stray)
    message: dict[str, Any] = {"role": _ROLES[role], **_content(where, there.get("content"))}
    if "reasoning_content" in there:
        message["thinking"] = there["reasoning_content"]
    if "tool_calls" in there:
        message["tool_calls"] = _tool_calls(f"{where}.tool_calls", there["tool_calls"], names)
    if "tool_call_id" in there:
        call_id = there["tool_call_id"]
        message["tool_call_id"] = call_id
        if isinstance(call_id, str) and call_id in names:
            message["tool_name"] = names[call_id]
    return message


def _content(where: str, given: Any) -> dict[str, Any]:
    if given is None or isinstance(given, str):
        return {"content": given or ""}
    if not isinstance(given, list):
        raise refused(f"{where}.content", given, "wanted a text or an array of parts")
    texts: list[str] = []
    images: list[str] = []
    for n, part in enumerate(given):
        at = f"{where}.content.{n}"
        match part:
            case {"type": "text", "text": str(text), **rest} if not rest:
                texts.append(text)
            case {"type": "image_url", "image_url": dict(image), **rest} if not rest:
                images.append(_image(f"{at}.image_url", image))
            case _:
                raise refused(at, part, "wanted a part with type and text, or with type and image_url")
    return {"content": "\n".join(texts)} | ({"images": images} if images else {})


def _image(where: str, image: Mapping[str, Any]) -> str:
    """Base64 without its prefix. Workers fetch nothing, and have one size of image."""
    url = image.get("url")
    prefix = _DATA_URL.match(url) if isinstance(url, str) else None
    if not isinstance(url, str) or prefix is None:
        raise refused(f"{where}.url", url, "wanted data:image/TYPE;base64,...: workers fetch no images")
    if stray := image.keys() - {"url", "detail"}:
        raise stray_field(f"{where}.", stray)
    if image.get("detail") not in (None, "auto"):
        raise refused(f"{where}.detail", image["detail"], 'allowed is "auto"')
    return url[prefix.end() :]


def _tool_calls(where: str, given: Any, names: dict[str, str]) -> list[dict[str, Any]]:
    if not isinstance(given, list):
        raise refused(where, given, "wanted an array of calls")
    calls = [_tool_call(f"{where}.{n}", call) for n, call in enumerate(given)]
    names |= {call["id"]: call["function"]["name"] for call in calls if "id" in call}
    return calls


def _tool_call(where: str, given: Any) -> dict[str, Any]:
    match given:
        case {"type": "function", "function": {"name": str(name), "arguments": str(text), **odd}, **rest}:
            call_id = rest.pop("id", None)
            if stray := [*rest, *(f"function.{field}" for field in odd)]:
                raise stray_field(f"{where}.", stray)
            call = {"function": {"name": name, "arguments": _arguments(f"{where}.function.arguments", text)}}
            return call | ({"id": call_id} if isinstance(call_id, str) else {})
    raise refused(where, given, "wanted type function, and function with name and arguments")


def _arguments(where: str, text: str) -> dict[str, Any]:
    """An object: OpenAI carries it as the text of one."""
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        raise BadJob("invalid", f"body.{where}: not JSON") from None
    if not isinstance(found, dict):
        raise BadJob("invalid", f"body.{where}: wanted the text of a JSON object, got {kind_of(found)}")
    return found
