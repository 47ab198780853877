"""OpenInference (Arize Phoenix): `llm.*`, `openinference.span.kind`. Input includes the cache."""

from __future__ import annotations

import re

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._dialects import messages
from agentpulse_exporter._dialects.dialect import (
    Dialect,
    Fields,
    inclusive_input,
    kind,
    one_reason,
    own_cost,
    provider,
)
from agentpulse_exporter._semconv import fields_of, text

_COUNT = "llm.token_count"
_NAMES = {
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
_ANSWER = re.compile(
    r'"object"\s*:\s*"(?:chat\.completion|text_completion|response)"|"type"\s*:\s*"message"'
)
_ID = re.compile(r'\s*\{\s*"id"\s*:\s*"([A-Za-z0-9_.:-]{1,128})"')
# Chains, guardrails, evaluators and rerankers are none of the conventions' operations.
_KINDS = {
    "LLM": "chat",
    "EMBEDDING": "embeddings",
    "AGENT": "invoke_agent",
    "TOOL": "execute_tool",
    "RETRIEVER": "retrieval",
}


def _parameters(fields: Fields) -> None:
    """Where a call failed, its model is among its parameters alone; so is that it streams."""
    given = fields_of(
        fields.get("llm.invocation_parameters") or fields.get("embedding.invocation_parameters")
    )
    if (model := text(given, "model")) is not None:
        fields[semconv.REQUEST_MODEL] = model
    if given.get("stream") is True:
        fields.setdefault(semconv.REQUEST_STREAM, True)


def _response_id(fields: Fields) -> None:
    """The answer's id is in the answer alone, which is JSON that may be long.

    Other spans have a tool's result there, or the model's text: neither is read.
    """
    answer = text(fields, "output.value")
    if answer is None or fields.get(semconv.OPERATION_NAME) not in ("chat", "text_completion"):
        return
    if answer == fields.get("llm.output_messages.0.message.content"):
        return
    found = _ID.match(answer)
    if found is not None and _ANSWER.search(answer):
        fields.setdefault(semconv.RESPONSE_ID, found[1])


OPENINFERENCE = Dialect(
    scopes=("openinference.",),
    marks=("openinference.span.kind", f"{_COUNT}."),
    names=_NAMES,
    quirks=(
        kind("openinference.span.kind", _KINDS),
        one_reason("llm.finish_reason"),
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
