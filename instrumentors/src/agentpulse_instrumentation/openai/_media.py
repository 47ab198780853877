"""Embeddings, images, audio and moderations.

The conventions have names for embeddings; images and audio are `generate_content` with the
output's type, moderations an operation of our own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agentpulse_instrumentation import _semconv as semconv
from agentpulse_instrumentation._engine.operation import (
    Operation,
    Table,
    count,
    get,
    integer,
    text,
    texts,
)
from agentpulse_instrumentation.openai._chat import choices

_MODEL = {"model": (semconv.REQUEST_MODEL, text)}

EMBEDDINGS = Operation(
    name="embeddings",
    request=Table(
        {
            **_MODEL,
            "encoding_format": (semconv.REQUEST_ENCODING_FORMATS, texts),
            "dimensions": (semconv.EMBEDDINGS_DIMENSION_COUNT, integer),
        }
    ),
    answer=Table(
        {
            "model": (semconv.RESPONSE_MODEL, text),
            "usage.prompt_tokens": (semconv.USAGE_INPUT_TOKENS, integer),
        }
    ),
)

_MEDIA_ANSWER = Table(
    {
        "model": (semconv.RESPONSE_MODEL, text),
        "usage.input_tokens": (semconv.USAGE_INPUT_TOKENS, integer),
        "usage.output_tokens": (semconv.USAGE_OUTPUT_TOKENS, integer),
        "usage.input_tokens_details.text_tokens": (semconv.USAGE_TEXT_INPUT_TOKENS, count),
        "usage.input_tokens_details.image_tokens": (semconv.USAGE_IMAGE_INPUT_TOKENS, count),
        "usage.input_token_details.text_tokens": (semconv.USAGE_TEXT_INPUT_TOKENS, count),
        "usage.input_token_details.audio_tokens": (semconv.USAGE_AUDIO_INPUT_TOKENS, count),
        "usage.output_tokens_details.text_tokens": (semconv.USAGE_TEXT_OUTPUT_TOKENS, count),
        "usage.output_tokens_details.image_tokens": (semconv.USAGE_IMAGE_OUTPUT_TOKENS, count),
    }
)


class MediaAccumulator:
    """Image and transcription streams: of their events, the last one carries the usage."""

    def __init__(self, keeps_content: bool) -> None:  # noqa: ARG002  # none is kept
        self._usage: Any = None
        self._ended = False
        self._any = False

    def add(self, chunk: Any) -> None:
        """Takes one event."""
        self._any = True
        kind = get(chunk, "type")
        # `image_generation.completed`, `image_edit.completed`, `transcript.text.done`.
        if isinstance(kind, str) and kind.endswith((".completed", ".done")):
            self._ended = True
            self._usage = get(chunk, "usage")

    def answer(self) -> dict[str, Any] | None:
        """The usage, which is all that the conventions ask of the answer."""
        return {"usage": self._usage} if self._any else None

    def is_complete(self) -> bool:
        """Whether the last event came."""
        return self._ended

    def reported_usage(self) -> bool:
        """Whether it carried the usage."""
        return self._usage is not None

    def received_characters(self) -> int:
        """Nothing of it is billed by its text."""
        return 0


IMAGE = Operation(
    name="generate_content",
    request=Table({**_MODEL, "n": (semconv.REQUEST_CHOICE_COUNT, choices)}),
    answer=_MEDIA_ANSWER,
    constants={semconv.OUTPUT_TYPE: "image"},
    accumulator=MediaAccumulator,
)
TRANSCRIPTION = replace(IMAGE, constants={semconv.OUTPUT_TYPE: "text"})
SPEECH = replace(IMAGE, constants={semconv.OUTPUT_TYPE: "speech"})
MODERATION = Operation(
    name="moderation",
    request=Table(_MODEL),
    answer=Table({"id": (semconv.RESPONSE_ID, text), "model": (semconv.RESPONSE_MODEL, text)}),
)
