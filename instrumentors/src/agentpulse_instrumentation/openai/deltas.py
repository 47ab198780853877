"""Puts the deltas of a chat stream together into the message they make up.

Runs only where content is captured. Text grows, lists grow by their `index`, everything else is
replaced.
"""

from __future__ import annotations

from typing import Any, cast

_GROWING = frozenset(
    {"content", "refusal", "reasoning_content", "reasoning", "arguments", "text", "transcript"}
)


def merge_delta(message: dict[str, Any], delta: Any) -> None:
    """Adds one delta, a model or a dict, to the message."""
    for name, value in _plain(delta).items():
        if value is None:
            continue
        if name in _GROWING and isinstance(value, str):
            said = message.get(name)
            if isinstance(said, list):
                cast("list[Any]", said).append({"type": "text", "text": value})
            else:
                message[name] = (said or "") + value
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
