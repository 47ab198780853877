"""What LiteLLM answers: OpenAI's format whoever was asked, and sometimes the provider's own."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from agentpulse_instrumentation import _semconv as semconv
from agentpulse_instrumentation._engine.operation import (
    Attributes,
    Message,
    Operation,
    Table,
    count,
    get,
    items,
    reported_error,
    text,
)
from agentpulse_instrumentation.anthropic._messages import MESSAGE
from agentpulse_instrumentation.openai._chat import CHAT, COMPLETION
from agentpulse_instrumentation.openai._media import EMBEDDINGS, IMAGE, MODERATION
from agentpulse_instrumentation.openai._responses import RESPONSE

# LiteLLM's additions to OpenAI's format of chat answers: what Anthropic says of its caches.
_ADDED = Table(
    {
        "usage.cache_read_input_tokens": (semconv.USAGE_CACHE_READ_INPUT_TOKENS, count),
        "usage.cache_creation_input_tokens": (semconv.USAGE_CACHE_WRITE_INPUT_TOKENS, count),
        "usage.prompt_tokens_details.cache_creation_token_details.ephemeral_5m_input_tokens": (
            semconv.ANTHROPIC_CACHE_WRITE_5M_TOKENS,
            count,
        ),
        "usage.prompt_tokens_details.cache_creation_token_details.ephemeral_1h_input_tokens": (
            semconv.ANTHROPIC_CACHE_WRITE_1H_TOKENS,
            count,
        ),
        "usage.speed": (semconv.SPEED, text),
        "usage.inference_geo": (semconv.INFERENCE_GEO, text),
    }
)
# What providers say better than LiteLLM: who they are and what was thought. `responseId` and
# `modelVersion` are Gemini's.
_SAID = Table(
    {
        "id": (semconv.RESPONSE_ID, text),
        "model": (semconv.RESPONSE_MODEL, text),
        "responseId": (semconv.RESPONSE_ID, text),
        "modelVersion": (semconv.RESPONSE_MODEL, text),
        "usage.output_tokens_details.thinking_tokens": (
            semconv.USAGE_REASONING_OUTPUT_TOKENS,
            count,
        ),
    }
)
_PARTS = (
    semconv.USAGE_CACHE_READ_INPUT_TOKENS,
    semconv.USAGE_CACHE_WRITE_INPUT_TOKENS,
    semconv.USAGE_REASONING_OUTPUT_TOKENS,
)
_LARGEST_BODY = 2**18
_WRAPPED_ID = b"response_id:"


@dataclass(slots=True)
class Answer:
    """What an answer says."""

    attributes: Attributes = field(default_factory=dict[str, Any])
    reasons: list[str | None] = field(default_factory=list["str | None"])
    """Why it ended, one per choice."""
    failure: str | None = None
    messages: list[Message] = field(default_factory=list[Message])


def is_whole(result: Any) -> bool:
    """Whether this is an answer, and not a chunk of a stream or the stream itself."""
    if result is None or hasattr(result, "__next__") or hasattr(result, "__anext__"):
        return False
    return type(result).__name__ != "ModelResponseStream"


def chunk_characters(chunk: Any) -> int:
    """How much text a chunk of a stream brings."""
    said = (get(get(choice, "delta"), "content") for choice in items(chunk, "choices"))
    return sum(len(piece) for piece in said if isinstance(piece, str))


def answer_characters(result: Any) -> int:
    """How much text an answer brings."""
    said = (
        get(get(choice, "message"), "content") or get(choice, "text")
        for choice in items(result, "choices")
    )
    return sum(len(piece) for piece in said if isinstance(piece, str))


def read_answer(
    result: Any, said: Mapping[str, Any], *, provider: object, with_content: bool
) -> Answer:
    """Reads LiteLLM's answer to a call; `said` is what the provider answered, as far as known."""
    # A stream of the Responses API is told of by its last event.
    result = get(result, "response") or result
    shape = _shape_of(result)
    # LiteLLM makes a finish reason that it doesn't know, `error` too, the most usual one.
    answer = Answer(failure=reported_error(said) or reported_error(result))
    if shape is None:
        return answer
    attributes = answer.attributes
    shape.answer.read(result, attributes)
    if shape in (CHAT, COMPLETION):
        _ADDED.read(result, attributes)
        _without_guesses(result, attributes)
    shape.more_from_answer(result, attributes)
    usage = get(result, "usage")
    if provider != "openrouter" and get(usage, "cost_in_usd_ticks") is None:
        # `usage.cost` is OpenRouter's own figure; elsewhere LiteLLM puts its estimate there.
        attributes.pop(semconv.COST_REPORTED, None)
    answer.reasons = shape.finish_reasons(result)
    answer.failure = answer.failure or shape.failure(result)
    if with_content:
        answer.messages = shape.output_content(result)
    _correct(result, said, attributes)
    return answer


def _without_guesses(result: Any, attributes: Attributes) -> None:
    """Takes out what LiteLLM thinks up where a provider says nothing."""
    if "claude" in str(get(result, "model")):
        # It counts the words of the thinking; what Anthropic says of it is only in the body.
        attributes.pop(semconv.USAGE_REASONING_OUTPUT_TOKENS, None)
    for name in _PARTS:
        if attributes.get(name) == 0:
            del attributes[name]
    # On ModelResponse, only Anthropic's tier is with the usage.
    tier = text(get(get(result, "usage"), "service_tier"))
    if tier is not None and semconv.OPENAI_RESPONSE_SERVICE_TIER not in attributes:
        attributes[semconv.ANTHROPIC_RESPONSE_SERVICE_TIER] = tier


def _shape_of(result: Any) -> Operation | None:
    choices = items(result, "choices")
    if choices:
        return CHAT if get(choices[0], "message") is not None else COMPLETION
    if isinstance(get(result, "output"), list):
        return RESPONSE
    if get(result, "type") == "message":
        return MESSAGE
    if isinstance(get(result, "results"), list):
        return MODERATION
    if get(result, "object") == "list":
        return EMBEDDINGS
    # Images and transcriptions report their usage alike; some answers are bytes and have none.
    return IMAGE if get(result, "usage") is not None else None


def _correct(result: Any, said: Mapping[str, Any], attributes: Attributes) -> None:
    """Takes what the provider itself says, where LiteLLM has put in its own."""
    served = text(get(getattr(result, "_hidden_params", None), "provider_response_model"))
    if served is not None:
        attributes[semconv.RESPONSE_MODEL] = served
    if semconv.RESPONSE_ID not in attributes:
        return
    attributes[semconv.RESPONSE_ID] = _unwrapped(attributes[semconv.RESPONSE_ID])
    _SAID.read(said, attributes)


def parsed_body(body: str | None) -> dict[str, Any]:
    """The body that a provider sent, where it is a JSON object and not large; else an empty one."""
    if body is None or len(body) > _LARGEST_BODY or not body.startswith("{"):
        return {}
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _unwrapped(response_id: str) -> str:
    # LiteLLM wraps ids of the Responses API, so that it finds the deployment again:
    # `resp_` and the base64 of `litellm:custom_llm_provider:…;model_id:…;response_id:…`.
    try:
        told = base64.b64decode(response_id.partition("_")[2], validate=True)
    except (ValueError, binascii.Error):
        return response_id
    if not told.startswith(b"litellm:") or _WRAPPED_ID not in told:
        return response_id
    return told.partition(_WRAPPED_ID)[2].decode("utf-8", "replace")
