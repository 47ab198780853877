"""OpenInference (Arize Phoenix): `llm.*`, `openinference.span.kind`. Input includes the cache."""

from __future__ import annotations

import re

from agentpulse_exporter import names
from agentpulse_exporter.dialects import said
from agentpulse_exporter.dialects.dialect import (
    Dialect,
    Told,
    inclusive_input,
    json_object,
    own_cost,
)
from agentpulse_exporter.dialects.genai import provider
from agentpulse_exporter.reading import text

_COUNT = "llm.token_count"
_WORDS = {
    names.PROVIDER_NAME: ("llm.provider", "llm.system"),
    names.REQUEST_MODEL: (
        "llm.request.model_name",
        "llm.model_name",
        "embedding.model_name",
        "reranker.model_name",
    ),
    names.RESPONSE_MODEL: ("llm.response.model_name", "llm.model_name", "embedding.model_name"),
    names.USAGE_INPUT_TOKENS: (f"{_COUNT}.prompt",),
    names.USAGE_OUTPUT_TOKENS: (f"{_COUNT}.completion",),
    names.USAGE_CACHE_READ_INPUT_TOKENS: (f"{_COUNT}.prompt_details.cache_read",),
    names.USAGE_CACHE_WRITE_INPUT_TOKENS: (f"{_COUNT}.prompt_details.cache_write",),
    names.USAGE_AUDIO_INPUT_TOKENS: (f"{_COUNT}.prompt_details.audio",),
    names.USAGE_REASONING_OUTPUT_TOKENS: (f"{_COUNT}.completion_details.reasoning",),
    names.USAGE_AUDIO_OUTPUT_TOKENS: (f"{_COUNT}.completion_details.audio",),
    names.TOOL_NAME: ("tool.name",),
    names.AGENT_NAME: ("agent.name",),
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
        told.setdefault(names.OPERATION_NAME, operation)
    else:
        # Chains, guardrails, evaluators and rerankers are none of the conventions' operations.
        told.setdefault(names.SPAN_KIND, kind.lower())


def _finish_reason(told: Told) -> None:
    reason = text(told, "llm.finish_reason")
    if reason is not None:
        told.setdefault(names.RESPONSE_FINISH_REASONS, (reason,))


def _parameters(told: Told) -> None:
    """Where a call failed, its model is among its parameters alone; so is that it streams."""
    given = json_object(
        told.get("llm.invocation_parameters") or told.get("embedding.invocation_parameters")
    )
    if (model := text(given, "model")) is not None:
        told[names.REQUEST_MODEL] = model
    if given.get("stream") is True:
        told.setdefault(names.REQUEST_STREAM, True)


def _response_id(told: Told) -> None:
    """The answer's id stands in the answer alone, which is JSON that may be long.

    Other spans have a tool's result there, and some what the model said: neither is looked at.
    """
    said = text(told, "output.value")
    if said is None or told.get(names.OPERATION_NAME) not in ("chat", "text_completion"):
        return
    if said == told.get("llm.output_messages.0.message.content"):
        return
    found = _ID.match(said)
    if found is not None and _ANSWER.search(said):
        told.setdefault(names.RESPONSE_ID, found[1])


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
        said.indexed("llm.input_messages", "llm.output_messages"),
        said.values("input.value", "output.value"),
    ),
)
