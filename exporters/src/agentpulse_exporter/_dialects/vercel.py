"""Vercel's AI SDK: newer spans use the conventions' names, older ones `ai.*`.

A call of a model has a span of its own inside that of the function that the program called; only
the inner one (`….doGenerate`, `….doStream`, `….doEmbed`) is the call.
"""

from __future__ import annotations

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._dialects import messages
from agentpulse_exporter._dialects.dialect import Dialect, Fields, anthropic_input, is_no_call
from agentpulse_exporter._dialects.genai import NAMES, QUIRKS
from agentpulse_exporter._semconv import text

_NAMES = {
    **NAMES,
    semconv.PROVIDER_NAME: (*NAMES[semconv.PROVIDER_NAME], "ai.model.provider"),
    semconv.REQUEST_MODEL: ("ai.model.id",),
    semconv.RESPONSE_MODEL: ("ai.response.model",),
    semconv.RESPONSE_ID: ("ai.response.id",),
    semconv.RESPONSE_FINISH_REASONS: ("ai.response.finishReason",),
    semconv.USAGE_INPUT_TOKENS: (
        *NAMES[semconv.USAGE_INPUT_TOKENS],
        "ai.usage.inputTokens",
        "ai.usage.promptTokens",
        "ai.usage.tokens",
    ),
    semconv.USAGE_OUTPUT_TOKENS: (
        *NAMES[semconv.USAGE_OUTPUT_TOKENS],
        "ai.usage.outputTokens",
        "ai.usage.completionTokens",
    ),
    semconv.USAGE_CACHE_READ_INPUT_TOKENS: (
        *NAMES[semconv.USAGE_CACHE_READ_INPUT_TOKENS],
        "ai.usage.inputTokenDetails.cacheReadTokens",
        "ai.usage.cachedInputTokens",
    ),
    semconv.USAGE_CACHE_WRITE_INPUT_TOKENS: (
        *NAMES[semconv.USAGE_CACHE_WRITE_INPUT_TOKENS],
        "ai.usage.inputTokenDetails.cacheWriteTokens",
    ),
    semconv.USAGE_REASONING_OUTPUT_TOKENS: (
        *NAMES[semconv.USAGE_REASONING_OUTPUT_TOKENS],
        "ai.usage.reasoningTokens",
    ),
    semconv.SESSION_ID: (
        *NAMES[semconv.SESSION_ID],
        "ai.telemetry.metadata.sessionId",
        "ai.settings.context.sessionId",
    ),
    semconv.USER_ID: (
        *NAMES[semconv.USER_ID],
        "ai.telemetry.metadata.userId",
        "ai.settings.context.userId",
    ),
    semconv.TOOL_NAME: ("ai.toolCall.name",),
}
_INNER = {"doGenerate": "chat", "doStream": "chat", "doEmbed": "embeddings"}


def _operation(fields: Fields) -> None:
    called = text(fields, "ai.operationId")
    if called is None:
        return
    inner = _INNER.get(called.rpartition(".")[2])
    if inner is not None:
        fields.setdefault(semconv.OPERATION_NAME, inner)
    elif called == "ai.toolCall":
        fields.setdefault(semconv.OPERATION_NAME, "execute_tool")
    else:
        is_no_call(fields)


def _provider(fields: Fields) -> None:
    # `openai.chat`, `anthropic.messages`: the API behind the provider's name is no part of it.
    name = text(fields, semconv.PROVIDER_NAME)
    if name is not None and name == text(fields, "ai.model.provider"):
        fields[semconv.PROVIDER_NAME] = name.partition(".")[0]


def _input(fields: Fields) -> None:
    # Newer versions give the input with its cached part, and the rest beside it.
    if "ai.usage.inputTokenDetails.noCacheTokens" not in fields:
        anthropic_input(fields, (semconv.USAGE_CACHE_READ_INPUT_TOKENS,))


VERCEL = Dialect(
    marks=("ai.operationId", "ai.model.", "ai.usage."),
    names=_NAMES,
    quirks=(_operation, _provider, _input, *QUIRKS),
    content=(
        messages.values("ai.prompt.messages", "ai.response.text"),
        messages.values("ai.toolCall.args", "ai.toolCall.result"),
    ),
)
