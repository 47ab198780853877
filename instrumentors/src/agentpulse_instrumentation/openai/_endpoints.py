"""Embeddings, images, audio and moderations.

The conventions have names for embeddings; images and audio are `generate_content` with the
output's type, moderations an operation of our own.
"""

from __future__ import annotations

from dataclasses import replace

from agentpulse_instrumentation._engine import semconv
from agentpulse_instrumentation._engine.body import Table, count
from agentpulse_instrumentation._engine.operation import Operation
from agentpulse_instrumentation.openai._chat import choices
from agentpulse_instrumentation.openai._responses import ResponseAccumulator

_MODEL = {"model": (semconv.REQUEST_MODEL, str)}

EMBEDDINGS = Operation(
    name="embeddings",
    request=Table(
        {
            **_MODEL,
            "encoding_format": (semconv.REQUEST_ENCODING_FORMATS, list[str]),
            "dimensions": (semconv.EMBEDDINGS_DIMENSION_COUNT, int),
        }
    ),
    answer=Table(
        {
            "model": (semconv.RESPONSE_MODEL, str),
            "usage.prompt_tokens": (semconv.USAGE_INPUT_TOKENS, int),
        }
    ),
)

_MEDIA_ANSWER = {
    "model": (semconv.RESPONSE_MODEL, str),
    "usage.input_tokens": (semconv.USAGE_INPUT_TOKENS, int),
    "usage.output_tokens": (semconv.USAGE_OUTPUT_TOKENS, int),
    "usage.input_tokens_details.text_tokens": (semconv.USAGE_TEXT_INPUT_TOKENS, count),
    "usage.input_tokens_details.image_tokens": (semconv.USAGE_IMAGE_INPUT_TOKENS, count),
    "usage.input_token_details.text_tokens": (semconv.USAGE_TEXT_INPUT_TOKENS, count),
    "usage.input_token_details.audio_tokens": (semconv.USAGE_AUDIO_INPUT_TOKENS, count),
    "usage.output_tokens_details.text_tokens": (semconv.USAGE_TEXT_OUTPUT_TOKENS, count),
    "usage.output_tokens_details.image_tokens": (semconv.USAGE_IMAGE_OUTPUT_TOKENS, count),
}

IMAGE = Operation(
    name="generate_content",
    request=Table({**_MODEL, "n": (semconv.REQUEST_CHOICE_COUNT, choices)}),
    answer=Table(_MEDIA_ANSWER),
    constants={semconv.OUTPUT_TYPE: "image"},
    accumulator=ResponseAccumulator,
)
TRANSCRIPTION = replace(IMAGE, constants={semconv.OUTPUT_TYPE: "text"})
SPEECH = replace(IMAGE, constants={semconv.OUTPUT_TYPE: "speech"})
MODERATION = Operation(
    name="moderation",
    request=Table(_MODEL),
    answer=Table({"id": (semconv.RESPONSE_ID, str), "model": (semconv.RESPONSE_MODEL, str)}),
)
