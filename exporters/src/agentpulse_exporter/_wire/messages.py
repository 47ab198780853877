"""The conversation of a call as receivers show it: `[{role, content}]`, from the message JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import cast

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._values import CUT, clean, decoded, items_of, label

MAX_CONTENT = 12_288
"""Characters of all messages of one call together, which leaves room for the event's numbers."""
_LEAST = 64
"""The shortest rest of a message that is shown."""

_MARK = re.compile(r"<((?:[^<>,]+, )?\d+ bytes)>")
"""The mark of a body (`media.py`)."""


def conversation(attributes: Mapping[str, object]) -> list[dict[str, str]]:
    """The messages on the span, oldest first; the oldest are left out where there are too many."""
    kept: list[dict[str, str]] = []
    room = MAX_CONTENT
    for message in reversed(list(_messages(attributes))):
        # Roles and punctuation take room too.
        room -= len(message["role"]) + 32
        size = _size(message["content"])
        if room < min(size, _LEAST):
            kept.append({"role": "system", "content": f"earlier messages {CUT}"})
            break
        if size > room:
            message["content"] = _cut(message["content"], room)
        room -= _size(message["content"])
        kept.append(message)
    return kept[::-1]


def _size(text: str) -> int:
    """Characters as escaped JSON: six for most that aren't ASCII."""
    return len(json.dumps(text)) - 2


def _cut(text: str, room: int) -> str:
    limit = min(len(text), room)
    while limit > len(CUT) and _size(clean(text, limit)) > room:
        limit = limit * 3 // 4
    return clean(text, max(limit, len(CUT)))


def _messages(attributes: Mapping[str, object]) -> Iterator[dict[str, str]]:
    instructions = _content(decoded(attributes.get(semconv.SYSTEM_INSTRUCTIONS)))
    messages = [*_listed(attributes)]
    # Some have the instructions among the messages too.
    if instructions and {"role": "system", "content": instructions} not in messages[:1]:
        yield {"role": "system", "content": instructions}
    yield from messages


def _listed(attributes: Mapping[str, object]) -> Iterator[dict[str, str]]:
    for name in (semconv.INPUT_MESSAGES, semconv.OUTPUT_MESSAGES):
        for message in items_of(attributes.get(name)):
            if isinstance(message, dict):
                fields = cast("dict[str, object]", message)
                role = fields.get("role")
                yield {
                    "role": label(role) if isinstance(role, str) else "unknown",
                    "content": _content(fields.get("parts", fields.get("content"))),
                }


def _content(parts: object) -> str:
    if not isinstance(parts, list):
        parts = [parts]
    shown = (_part(part) for part in cast("list[object]", parts))
    text = "\n".join(text for text in shown if text)
    return clean(text, max(len(text), len(CUT)))


def _part(part: object) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return ""
    fields = cast("dict[str, object]", part)
    kind, content = fields.get("type"), fields.get("content", fields.get("text"))
    if kind in ("text", "reasoning") and content is not None:
        return content if isinstance(content, str) else _content(content)
    if kind == "tool_call":
        return f"[tool call {fields.get('name')}] {_json(fields.get('arguments'))}"
    if kind == "tool_call_response":
        return f"[tool response] {_json(fields.get('response', fields.get('result')))}"
    return f"[{fields.get('modality') or kind or 'part'}{_about(fields)}]"


def _about(fields: dict[str, object]) -> str:
    """The address or the type and size of an image, a sound or a file."""
    address, size = fields.get("uri", fields.get("file_id")), fields.get("size")
    marked = _MARK.search(json.dumps(fields, ensure_ascii=False))
    if isinstance(address, str):
        return f": {address}"
    if isinstance(size, int):
        mime_type = fields.get("mime_type")
        return f": {mime_type}, {size} bytes" if isinstance(mime_type, str) else f": {size} bytes"
    return f": {marked[1]}" if marked is not None else ""


def _json(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
