"""What OpenAI-compatible hosts report otherwise than OpenAI, made to hold to the conventions."""

from __future__ import annotations

from typing import Any

from agentpulse_instrumentation import semconv
from agentpulse_instrumentation.operation import Attributes

_INPUT_PARTS = (
    (semconv.USAGE_CACHE_READ_INPUT_TOKENS, semconv.USAGE_CACHE_WRITE_INPUT_TOKENS),
    (semconv.USAGE_AUDIO_INPUT_TOKENS, semconv.USAGE_IMAGE_INPUT_TOKENS),
)
_XAI_TICKS_PER_USD = 10_000_000_000


def within_totals(_answer: Any, into: Attributes) -> None:
    """Makes the totals include their parts, as the conventions define them.

    Some hosts count parts beside the total: cached input (Grok on Azure), audio input (Mistral),
    reasoning (xAI's chat API). A part that is larger than its total shows it.
    """
    total = into.get(semconv.USAGE_INPUT_TOKENS)
    if total is not None:
        for first, second in _INPUT_PARTS:
            beside = into.get(first, 0) + into.get(second, 0)
            if beside > total:
                into[semconv.USAGE_INPUT_TOKENS] = total = total + beside
    output = into.get(semconv.USAGE_OUTPUT_TOKENS)
    reasoning = into.get(semconv.USAGE_REASONING_OUTPUT_TOKENS, 0)
    if output is not None and reasoning > output:
        into[semconv.USAGE_OUTPUT_TOKENS] = output + reasoning


def dollars_of_ticks(value: Any) -> float | None:
    """US dollars of xAI's own figure for a call, tools included: 10^10 ticks are one dollar."""
    return value / _XAI_TICKS_PER_USD if isinstance(value, int) and value > 0 else None
