"""Token counts for streams whose usage was never reported.

They were left early, cut, or came from a host that doesn't tell.

An estimate from the length of the text, always labelled as one (`agentpulse.usage.estimated`).
Providers' guides give four characters a token for English text
(https://help.openai.com/en/articles/4936856); structure adds a few tokens a message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from agentpulse_instrumentation.bodies import without_bodies

CHARACTERS_PER_TOKEN = 4.0
_TOKENS_PER_MESSAGE = 4
_CONTENT_FIELDS = ("messages", "input", "prompt", "system", "instructions", "tools")
# Pictures, sound and documents travel as long text whose length says nothing about their tokens.
_OPAQUE_FIELDS = frozenset(
    {"image_url", "source", "input_audio", "file_data", "file", "encrypted_content"}
)
_DEEPEST = 24


def tokens(characters: int) -> int:
    """Tokens of that much text."""
    return -(-characters // int(CHARACTERS_PER_TOKEN))


def input_tokens(body: Mapping[str, Any]) -> int:
    """Tokens of a request's text: messages, instructions and tool definitions."""
    said = (without_bodies(body.get(name)) for name in _CONTENT_FIELDS)
    total = tokens(sum(_characters(each, 0) for each in said))
    messages = body.get("messages")
    return total + _TOKENS_PER_MESSAGE * (
        len(cast("list[Any]", messages)) if isinstance(messages, list) else 0
    )


def _characters(value: Any, depth: int) -> int:
    if isinstance(value, str):
        return len(value)
    if depth > _DEEPEST:
        return 0
    if isinstance(value, dict):
        node = cast("dict[str, Any]", value)
        return sum(
            _characters(child, depth + 1)
            for name, child in node.items()
            if name not in _OPAQUE_FIELDS
        )
    if isinstance(value, list | tuple):
        return sum(_characters(child, depth + 1) for child in cast("list[Any]", value))
    return 0
