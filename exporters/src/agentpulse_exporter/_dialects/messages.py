"""The content of foreign spans, as message JSON of the current conventions.

Read only where messages are captured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any, cast

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._dialects.names import ANSWERS, MESSAGES, REQUESTS
from agentpulse_exporter._values import Attributes, decoded, is_model_call, items_of

Message = dict[str, object]

_WRAPPERS = ("messages", "input", "choices", "message", "prompt")
"""The fields of requests and answers that hold their messages."""
_TOOL = {semconv.TOOL_CALL_ARGUMENTS: REQUESTS, semconv.TOOL_CALL_RESULT: ANSWERS}
_MOST = 1000


def with_messages(attributes: Attributes) -> Attributes:
    """The attributes, and their content by its current names."""
    found: dict[str, object] = {}
    if not is_model_call(attributes):
        for name, theirs in _TOOL.items():
            given = [attributes[each] for each in theirs if each in attributes]
            found |= {name: given[0]} if given else {}
        return {**found, **attributes}
    for name, (role, starts, theirs) in MESSAGES.items():
        if name not in attributes:
            whole = (decoded(attributes[n], attributes[n]) for n in theirs if n in attributes)
            values = chain((_nested(attributes, starts),), whole)
            listed = ([*_messages(value, role)] for value in values)
            messages = next((each for each in listed if each), None)
            found |= {name: json.dumps(messages)} if messages else {}
    return {**attributes, **found}


def _nested(fields: Attributes, starts: tuple[str, ...]) -> object:
    """The value that was flattened into attributes whose names start with one of these."""
    root: dict[str, Any] = {}
    for name, value in fields.items():
        if name.startswith(starts):
            start = next(each for each in starts if name.startswith(each))
            *path, last = name.removeprefix(start).split(".")
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
    for call in items_of(message.get("tool_calls")):
        if isinstance(call, dict):
            yield _tool_call(cast("dict[str, Any]", call))


def _part(wrapper: dict[str, Any]) -> Message:
    part = _inside(wrapper, "message_content")
    kind = part.get("type")
    if kind == "tool_use":
        return {**_tool_call(part), "arguments": part.get("input")}
    if kind == "tool_result":
        return {"type": "tool_call_response", "response": part.get("content")}
    if isinstance(content := part.get("text", part.get("thinking")), str):
        return {"type": "reasoning" if "thinking" in part else "text", "content": content}
    return part


def _tool_call(wrapper: dict[str, Any]) -> Message:
    call = _inside(_inside(wrapper, "tool_call"), "function")
    return {"type": "tool_call", "name": call.get("name"), "arguments": call.get("arguments")}


def _inside(wrapper: dict[str, Any], name: str) -> dict[str, Any]:
    value = wrapper.get(name, wrapper)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
