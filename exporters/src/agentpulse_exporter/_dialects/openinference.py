"""OpenInference (Arize Phoenix): `llm.*`, `openinference.span.kind`. Input includes the cache."""

from __future__ import annotations

import re

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._dialects import messages
from agentpulse_exporter._dialects.dialect import (
    Dialect,
    Told,
    inclusive_input,
    json_object,
    own_cost,
)
from agentpulse_exporter._dialects.genai import provider
from agentpulse_exporter._semconv import text

_COUNT = "llm.token_count"
_WORDS = {
    semconv.PROVIDER_NAME: ("llm.provider", "llm.system"),
    semconv.REQUEST_MODEL: (
        "llm.request.model_name",
        "llm.model_name",
        "embedding.model_name",
        "reranker.model_name",
    ),
    semconv.RESPONSE_MODEL: ("llm.response.model_name", "llm.model_name", "embedding.model_name"),
    semconv.USAGE_INPUT_TOKENS: (f"{_COUNT}.prompt",),
    semconv.USAGE_OUTPUT_TOKENS: (f"{_COUNT}.completion",),
    semconv.USAGE_CACHE_READ_INPUT_TOKENS: (f"{_COUNT}.prompt_details.cache_read",),
    semconv.USAGE_CACHE_WRITE_INPUT_TOKENS: (f"{_COUNT}.prompt_details.cache_write",),
    semconv.USAGE_AUDIO_INPUT_TOKENS: (f"{_COUNT}.prompt_details.audio",),
    semconv.USAGE_REASONING_OUTPUT_TOKENS: (f"{_COUNT}.completion_details.reasoning",),
    semconv.USAGE_AUDIO_OUTPUT_TOKENS: (f"{_COUNT}.completion_details.audio",),
    semconv.TOOL_NAME: ("tool.name",),
    semconv.AGENT_NAME: ("agent.name",),
}
_KINDS = {
    "LLM": "chat",
    "EMBEDDING": "embeddings",
    "AGENT": "invoke_agent",
    "TOOL": "execute_tool",
    "RETRIEVER": "retrieval",
}


def _operation(told: Told) -> None:
    kind = text(told, "openinference.span.kind")
    if kind is None:
        return
    operation = _KINDS.get(kind.upper())
    if operation is not None:
        told.setdefault(semconv.OPERATION_NAME, operation)
    else:
        # Chains, guardrails, evaluators and rerankers are none of the conventions' operations.
        told.setdefault(semconv.SPAN_KIND, kind.lower())


def _finish_reason(told: Told) -> None:
    reason = text(told, "llm.finish_reason")
    if reason is not None:
        told.setdefault(semconv.RESPONSE_FINISH_REASONS, (reason,))


def _parameters(told: Told) -> None:
    """Where a call failed, its model is among its parameters alone; so is that it streams."""
    given = json_object(
        told.get("llm.invocation_parameters") or told.get("embedding.invocation_parameters")
    )
    if (model := text(given, "model")) is not None:
        told[semconv.REQUEST_MODEL] = model
    if given.get("stream") is True:
        told.setdefault(semconv.REQUEST_STREAM, True)


def _response_id(told: Told) -> None:
    """The answer's id stands in the answer alone, which is JSON that may be long.

    Other spans have a tool's result there, and some what the model said: neither is looked at.
    """
    messages = text(told, "output.value")
    if messages is None or told.get(semconv.OPERATION_NAME) not in ("chat", "text_completion"):
        return
    if messages == told.get("llm.output_messages.0.message.content"):
        return
    found = _ID.match(messages)
    if found is not None and _ANSWER.search(messages):
        told.setdefault(semconv.RESPONSE_ID, found[1])


_ANSWER = re.compile(
    r'"object"\s*:\s*"(?:chat\.completion|text_completion|response)"|"type"\s*:\s*"message"'
)
_ID = re.compile(r'\s*\{\s*"id"\s*:\s*"([A-Za-z0-9_.:-]{1,128})"')
DIALECT = Dialect(
    scopes=("openinference.",),
    marks=("openinference.span.kind", f"{_COUNT}."),
    words=_WORDS,
    quirks=(
        _operation,
        _finish_reason,
        _parameters,
        _response_id,
        provider,
        inclusive_input,
        own_cost("llm.cost.total"),
    ),
    content=(
        messages.indexed("llm.input_messages", "llm.output_messages"),
        messages.values("input.value", "output.value"),
    ),
)
