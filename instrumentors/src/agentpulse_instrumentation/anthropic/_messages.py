"""Anthropic's Messages API and its batches.

Fields: https://docs.anthropic.com/en/api/messages.
"""

from __future__ import annotations

from typing import Any

from agentpulse_instrumentation._engine import semconv
from agentpulse_instrumentation._engine.body import Table, count, fields, get, text
from agentpulse_instrumentation._engine.operation import Attributes, Operation
from agentpulse_instrumentation.anthropic import _content as content

_REQUEST = {
    "model": (semconv.REQUEST_MODEL, str),
    "max_tokens": (semconv.REQUEST_MAX_TOKENS, int),
    "temperature": (semconv.REQUEST_TEMPERATURE, float),
    "top_p": (semconv.REQUEST_TOP_P, float),
    "top_k": (semconv.REQUEST_TOP_K, int),
    "stop_sequences": (semconv.REQUEST_STOP_SEQUENCES, list[str]),
    "output_config.effort": (semconv.REQUEST_REASONING_LEVEL, str),
}
_CREATED, _OUT = "usage.cache_creation", "usage.output_tokens_details"
_ANSWER = {
    "id": (semconv.RESPONSE_ID, str),
    "model": (semconv.RESPONSE_MODEL, str),
    "usage.input_tokens": (semconv.USAGE_INPUT_TOKENS, int),
    "usage.output_tokens": (semconv.USAGE_OUTPUT_TOKENS, int),
    "usage.cache_read_input_tokens": (semconv.USAGE_CACHE_READ_INPUT_TOKENS, int),
    "usage.cache_creation_input_tokens": (semconv.USAGE_CACHE_WRITE_INPUT_TOKENS, int),
    f"{_CREATED}.ephemeral_5m_input_tokens": (semconv.ANTHROPIC_CACHE_WRITE_5M_TOKENS, count),
    f"{_CREATED}.ephemeral_1h_input_tokens": (semconv.ANTHROPIC_CACHE_WRITE_1H_TOKENS, count),
    f"{_OUT}.thinking_tokens": (semconv.USAGE_REASONING_OUTPUT_TOKENS, int),
    "usage.service_tier": (semconv.ANTHROPIC_RESPONSE_SERVICE_TIER, str),
    "usage.speed": (semconv.SPEED, str),
    "usage.inference_geo": (semconv.INFERENCE_GEO, str),
}


def _more_from_answer(_answer: Any, into: Attributes) -> None:
    """Anthropic counts cached input beside the input; the conventions' total includes it."""
    if semconv.USAGE_INPUT_TOKENS in into:
        into[semconv.USAGE_INPUT_TOKENS] += into.get(
            semconv.USAGE_CACHE_READ_INPUT_TOKENS, 0
        ) + into.get(semconv.USAGE_CACHE_WRITE_INPUT_TOKENS, 0)


def _finish_reasons(answer: Any) -> list[str | None]:
    return [text(get(answer, "stop_reason"))]


class MessageAccumulator:
    """Rebuilds a message from its events.

    Every event may be the last: a server can cut the stream anywhere. The usage of `message_start`
    holds the input and a first figure for the output; `message_delta` brings cumulative figures,
    which replace it.
    """

    def __init__(self, keeps_content: bool) -> None:
        self._keeps_content = keeps_content
        self._blocks: dict[int, dict[str, Any]] = {}
        self._message: Any = None
        self._usage: dict[str, Any] = {}
        self._stop_reason: str | None = None
        self._stopped = False
        self._has_usage = False
        self._characters = 0

    def add(self, chunk: Any) -> None:
        """Takes one event."""
        known = fields(chunk)
        kind = known.get("type")
        if kind == "content_block_delta":
            delta = known["delta"]
            piece = fields(delta).get("text")
            self._characters += len(piece) if piece else content.delta_characters(delta)
            if self._keeps_content:
                content.grow(self._blocks.setdefault(known.get("index", 0), {}), delta)
        elif kind == "content_block_start" and self._keeps_content:
            self._blocks[known.get("index", 0)] = {**fields(known.get("content_block"))}
        elif kind == "message_start":
            self._message = known.get("message")
            self._take_usage(get(self._message, "usage"))
        elif kind == "message_delta":
            self._stop_reason = text(get(known.get("delta"), "stop_reason"))
            self._has_usage = get(known.get("usage"), "output_tokens") is not None
            self._take_usage(known.get("usage"))
        elif kind == "message_stop":
            self._stopped = True

    def _take_usage(self, usage: Any) -> None:
        self._usage |= {n: value for n, value in fields(usage).items() if value is not None}

    def answer(self) -> dict[str, Any] | None:
        """The message as far as it got."""
        if self._message is None:
            return None
        return {
            "id": get(self._message, "id"),
            "model": get(self._message, "model"),
            "role": "assistant",
            "stop_reason": self._stop_reason or text(get(self._message, "stop_reason")),
            "usage": self._usage,
            "content": [block for _, block in sorted(self._blocks.items())],
        }

    def is_complete(self) -> bool:
        """Whether the message was given its reason to stop, which the last events bring."""
        return self._stopped or self._stop_reason is not None

    def reported_usage(self) -> bool:
        """Whether the final figures came; those of the start are placeholders."""
        return self._has_usage

    def received_characters(self) -> int:
        """Text, thinking and tool input."""
        return self._characters


MESSAGE = Operation(
    name="chat",
    request=Table(_REQUEST),
    answer=Table(_ANSWER),
    more_from_answer=_more_from_answer,
    finish_reasons=_finish_reasons,
    accumulator=MessageAccumulator,
    input_content=content.messages_input,
    output_content=content.messages_output,
    estimates_usage=True,
)
CREATE_BATCH = Operation(name="create_batch")
