"""What others' spans say was said, as message JSON of the current conventions.

Read only where messages are captured: elsewhere nothing looks at them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._dialects.dialect import Quirk, Told
from agentpulse_exporter._pricing.cost import is_model_call

Message = dict[str, object]

_WRAPPERS = ("messages", "input", "choices", "message", "prompt")
"""Where requests and answers hold their messages."""
_MOST = 1000


def values(asked: str, answered: str) -> Quirk:
    """Reads attributes that hold a request and its answer each, as text or JSON."""

    def take(told: Told) -> None:
        if not is_model_call(told):
            _keep(told, semconv.TOOL_CALL_ARGUMENTS, told.get(asked))
            _keep(told, semconv.TOOL_CALL_RESULT, told.get(answered))
            return
        for source, name, role in (
            (asked, semconv.INPUT_MESSAGES, "user"),
            (answered, semconv.OUTPUT_MESSAGES, "assistant"),
        ):
            if name not in told:
                _tell(told, name, [*_messages(_parsed(told.get(source)), role)])

    return take


def indexed(asked: str, answered: str) -> Quirk:
    """Reads messages that are spread over attributes such as `{asked}.0.content`."""

    def take(told: Told) -> None:
        for prefix, name, role in (
            (asked, semconv.INPUT_MESSAGES, "user"),
            (answered, semconv.OUTPUT_MESSAGES, "assistant"),
        ):
            _tell(told, name, [*_messages(_gathered(told, f"{prefix}."), role)])

    return take


def _tell(told: Told, name: str, messages: list[Message]) -> None:
    if messages:
        told.setdefault(name, json.dumps(messages))


def _keep(told: Told, name: str, value: object) -> None:
    if value is not None:
        told.setdefault(name, value)


def _parsed(value: object) -> object:
    if not isinstance(value, str):
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _gathered(told: Told, prefix: str) -> object:
    """The attributes whose names start so as what they were flattened from."""
    root: dict[str, Any] = {}
    for name, value in told.items():
        if name.startswith(prefix):
            *path, last = name[len(prefix) :].split(".")
            inner = root
            for step in path:
                found = inner.setdefault(step, {})
                inner = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
            inner[last] = value
    return _listed(root)


def _listed(value: object) -> object:
    """The value with lists where its keys are numbers."""
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, object]", value)
    if fields and all(key.isdecimal() for key in fields):
        return [_listed(fields[key]) for key in sorted(fields, key=int)][:_MOST]
    return {key: _listed(item) for key, item in fields.items()}


def _messages(value: object, role: str, depth: int = 8) -> Iterator[Message]:
    """The messages in a request or an answer; `role` is that of text without one."""
    if isinstance(value, str) and value:
        yield {"role": role, "parts": [{"type": "text", "content": value}]}
    elif isinstance(value, list) and depth:
        for item in cast("list[object]", value)[:_MOST]:
            yield from _messages(item, role, depth - 1)
    elif isinstance(value, dict) and depth:
        fields = cast("dict[str, object]", value)
        if "system" in fields:
            yield from _messages({"role": "system", "content": fields["system"]}, role, depth - 1)
        yield from _of_object(fields, role, depth)


def _of_object(fields: dict[str, object], role: str, depth: int) -> Iterator[Message]:
    wrapped = next((fields[name] for name in _WRAPPERS if fields.get(name)), None)
    if wrapped is not None and "role" not in fields:
        yield from _messages(wrapped, role, depth - 1)
    elif parts := [*_parts(fields)]:
        speaker = fields.get("role")
        yield {"role": speaker if isinstance(speaker, str) else role, "parts": parts}


def _parts(message: dict[str, object]) -> Iterator[Message]:
    """The parts of a message of OpenAI's, Anthropic's, the conventions' or OpenInference's kind."""
    for name in ("parts", "content", "contents", "text"):
        content = message.get(name)
        for part in cast("list[object]", content) if isinstance(content, list) else [content]:
            if isinstance(part, str) and part:
                yield {"type": "text", "content": part}
            elif isinstance(part, dict):
                yield _part(cast("dict[str, Any]", part))
    calls = message.get("tool_calls")
    for call in cast("list[object]", calls) if isinstance(calls, list) else []:
        if isinstance(call, dict):
            yield _tool_call(cast("dict[str, Any]", call))


def _part(told: dict[str, Any]) -> Message:
    part = _object(told.get("message_content", told))
    kind = part.get("type")
    if kind == "tool_use":
        return {**_tool_call(part), "arguments": part.get("input")}
    if kind == "tool_result":
        return {"type": "tool_call_response", "response": part.get("content")}
    if isinstance(words := part.get("text", part.get("thinking")), str):
        return {"type": "reasoning" if "thinking" in part else "text", "content": words}
    return part


def _tool_call(told: dict[str, Any]) -> Message:
    call = _object(told.get("tool_call", told))
    asked = _object(call.get("function", call))
    return {"type": "tool_call", "name": asked.get("name"), "arguments": asked.get("arguments")}


def _object(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
