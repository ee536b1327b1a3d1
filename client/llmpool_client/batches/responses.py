"""From a request's outcome to a line of OpenAI's result and error files."""

from __future__ import annotations

import json
from typing import Any

from llmpool_contract import Result, Usage

from .outcomes import Outcome
from .record import Batch


def line_of(batch: Batch, outcome: Outcome) -> dict[str, Any] | None:
    """The line for one request: with a response where it succeeded, else with an error; None: it hasn't ended yet."""
    line: dict[str, Any] = {"id": outcome.job_id, "custom_id": outcome.custom_id, "response": None, "error": None}
    if outcome.result is not None:
        body = body_of(batch.endpoint, outcome.result, batch.created_ms // 1_000)
        line["response"] = {"status_code": 200, "request_id": outcome.job_id, "body": body}
        return line
    if outcome.state.is_end:
        error = outcome.error
        line["error"] = {
            "code": error.code if error else str(outcome.state),
            "message": error.message if error else f"the request {outcome.state}",
        }
        return line
    return None


def body_of(endpoint: str, result: Result, created_s: int) -> dict[str, Any]:
    """The body of OpenAI's answer for one of its endpoints, from the result of a job that succeeded."""
    return _BODIES[endpoint](result, created_s)


def _chat(result: Result, created: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": result.content, "refusal": None}
    if result.thinking is not None:
        message["reasoning_content"] = result.thinking
    if result.tool_calls:
        message["content"] = result.content or None
        message["tool_calls"] = [_tool_call(n, call) for n, call in enumerate(result.tool_calls)]
    reason = "tool_calls" if result.tool_calls else result.finish_reason
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    return _completion(result, "chat.completion", created, choice)


def _text(result: Result, created: int) -> dict[str, Any]:
    choice = {"index": 0, "text": result.content or "", "logprobs": None, "finish_reason": result.finish_reason}
    return _completion(result, "text_completion", created, choice)


def _completion(result: Result, kind: str, created: int, choice: dict[str, Any]) -> dict[str, Any]:
    usage = _usage(result.usage)
    return {
        "id": result.id,
        "object": kind,
        "created": created,
        "model": result.model_used,
        "choices": [choice],
        "usage": usage,
    }


def _embeddings(result: Result, _created: int) -> dict[str, Any]:
    vectors = enumerate(result.embeddings or ())
    data = [{"object": "embedding", "index": n, "embedding": vector} for n, vector in vectors]
    tokens = result.usage.input_tokens if result.usage else None
    usage = None if tokens is None else {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": result.model_used, "usage": usage}


_BODIES = {"/v1/chat/completions": _chat, "/v1/completions": _text, "/v1/embeddings": _embeddings}


def _usage(usage: Usage | None) -> dict[str, int] | None:
    """None where the model server didn't count both: a count that is missing is not zero."""
    if usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    whole = usage.input_tokens + usage.output_tokens
    return {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens, "total_tokens": whole}


def _tool_call(place: int, call: dict[str, Any]) -> dict[str, Any]:
    """A call in OpenAI's shape: with an id, and its arguments as the text of a JSON object."""
    function = call.get("function") or {}
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments or {}, ensure_ascii=False)
    name = function.get("name")
    shaped = {"name": name, "arguments": arguments}
    return {"id": call.get("id") or f"call_{place}", "type": "function", "function": shaped}
