"""Streams of Gemini's API: LiteLLM gives each of their chunks a reason to end that it thinks up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentpulse_instrumentation import _semconv as semconv
from agentpulse_instrumentation._engine.operation import (
    Attributes,
    Operation,
    Table,
    count,
    get,
    integer,
    items,
    text,
)


class ContentAccumulator:
    """Keeps the last chunk, whose usage is that of all so far, and the reasons to end."""

    def __init__(self, keeps_content: bool) -> None:  # noqa: ARG002  # LiteLLM's answer has it
        self._last: dict[str, Any] = {}
        self._reasons: dict[int, str | None] = {}
        self._is_blocked = False
        self._characters = 0

    def add(self, chunk: Any) -> None:
        """Takes one chunk."""
        self._last = {**self._last, **chunk}
        self._is_blocked = self._is_blocked or bool(
            get(get(chunk, "promptFeedback"), "blockReason")
        )
        for candidate in items(chunk, "candidates"):
            index, reason = get(candidate, "index") or 0, text(get(candidate, "finishReason"))
            self._reasons[index] = reason or self._reasons.get(index)
            said = (get(part, "text") for part in items(get(candidate, "content"), "parts"))
            self._characters += sum(len(piece) for piece in said if isinstance(piece, str))

    def answer(self) -> Mapping[str, Any]:
        """What the chunks say of the whole."""
        return {**self._last, "reasons": [self._reasons[index] for index in sorted(self._reasons)]}

    def is_complete(self) -> bool:
        """Whether every candidate was given its reason, or the prompt was refused."""
        return self._is_blocked or (bool(self._reasons) and all(self._reasons.values()))

    def reported_usage(self) -> bool:
        """Whether a chunk carried it."""
        return get(get(self._last, "usageMetadata"), "candidatesTokenCount") is not None

    def received_characters(self) -> int:
        """The text."""
        return self._characters


def _output_tokens(answer: Any, into: Attributes) -> None:
    used = get(answer, "usageMetadata")
    said, thought = (get(used, f"{name}TokenCount") for name in ("candidates", "thoughts"))
    if isinstance(said, int):
        into[semconv.USAGE_OUTPUT_TOKENS] = said + (thought if isinstance(thought, int) else 0)


CONTENT = Operation(
    name="chat",
    answer=Table(
        {
            "responseId": (semconv.RESPONSE_ID, text),
            "modelVersion": (semconv.RESPONSE_MODEL, text),
            "usageMetadata.promptTokenCount": (semconv.USAGE_INPUT_TOKENS, integer),
            "usageMetadata.cachedContentTokenCount": (
                semconv.USAGE_CACHE_READ_INPUT_TOKENS,
                count,
            ),
            "usageMetadata.thoughtsTokenCount": (semconv.USAGE_REASONING_OUTPUT_TOKENS, count),
        }
    ),
    more_from_answer=_output_tokens,
    finish_reasons=lambda answer: items(answer, "reasons"),
    accumulator=ContentAccumulator,
)
