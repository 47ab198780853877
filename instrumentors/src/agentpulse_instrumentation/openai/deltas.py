"""Puts the deltas of a chat stream together into the message they make up.

Runs only where content is captured. Text grows, lists grow by their `index`, everything else is
replaced.
"""

from __future__ import annotations

from typing import Any, cast

from agentpulse_instrumentation.bodies import size_of_base64

_SOUND = "data"
"""Pieces of what a model says aloud, which are counted and not kept."""
_GROWING = frozenset(
    {
        *("content", "refusal", "reasoning_content", "reasoning", "arguments", "text"),
        *("transcript", _SOUND),
    }
)


def merge_delta(message: dict[str, Any], delta: Any) -> None:
    """Adds one delta, a model or a dict, to the message."""
    for name, value in _plain(delta).items():
        if value is None:
            continue
        if name in _GROWING and isinstance(value, str):
            _grow(message, name, value)
        elif isinstance(value, list):
            said = message.get(name)
            if not isinstance(said, list):
                # Mistral's thinking models go from text to a list of parts within one message.
                message[name] = [{"type": "text", "text": said}] if said else []
            _merge_list(message[name], cast("list[Any]", value))
        elif isinstance(value, dict) or hasattr(value, "__pydantic_fields_set__"):
            merge_delta(message.setdefault(name, {}), value)
        else:
            message[name] = value


def _grow(message: dict[str, Any], name: str, piece: str) -> None:
    said = message.get(name)
    if name == _SOUND:
        message["size"] = message.get("size", 0) + size_of_base64(piece)
    elif isinstance(said, list):
        cast("list[Any]", said).append({"type": "text", "text": piece})
    else:
        message[name] = (said or "") + piece


def _merge_list(entries: list[dict[str, Any]], deltas: list[Any]) -> None:
    for delta in deltas:
        fields = _plain(delta)
        index = fields.get("index")
        at = index if isinstance(index, int) and 0 <= index <= len(entries) else len(entries)
        if at == len(entries):
            entries.append({})
        merge_delta(entries[at], fields)


def _plain(node: Any) -> dict[str, Any]:
    if isinstance(node, dict):
        return cast("dict[str, Any]", node)
    return {**getattr(node, "__dict__", {}), **(getattr(node, "__pydantic_extra__", None) or {})}
