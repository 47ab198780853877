"""Texts and token counts of the fake provider: made up, and the same every time."""

from __future__ import annotations

import json
from typing import Any

TEXT = "All quiet at 3 am: two mails answered, one invoice filed, nothing that needs you."
THOUGHT = "The user wants a summary; nothing urgent is in the list."
DATED = {
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
    "claude-haiku-4-5": "claude-haiku-4-5-20251001",
}
"""What models are called in answers."""


def dated(model: object) -> str:
    """The name under which a model answers."""
    return DATED.get(str(model), str(model))


def tokens(content: Any) -> int:
    """A made-up count: four characters of JSON are a token."""
    return max(len(json.dumps(content)) // 4, 1)


def pieces(text: str) -> list[str]:
    """A text as it is streamed, word by word."""
    first, *rest = text.split(" ")
    return [first, *(f" {word}" for word in rest)]
