"""Vercel's AI SDK: newer spans use the conventions' words, older ones `ai.*`.

A call of a model has a span of its own inside that of the function that the program called; only
the inner one (`….doGenerate`, `….doStream`, `….doEmbed`) is the call.
"""

from __future__ import annotations

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._dialects import messages
from agentpulse_exporter._dialects.dialect import Dialect, Told, inclusive_input, is_no_call
from agentpulse_exporter._dialects.genai import QUIRKS, WORDS
from agentpulse_exporter._semconv import count, text

_WORDS = {
    **WORDS,
    semconv.PROVIDER_NAME: (*WORDS[semconv.PROVIDER_NAME], "ai.model.provider"),
    semconv.REQUEST_MODEL: ("ai.model.id",),
    semconv.RESPONSE_MODEL: ("ai.response.model",),
    semconv.RESPONSE_ID: ("ai.response.id",),
    semconv.RESPONSE_FINISH_REASONS: ("ai.response.finishReason",),
    semconv.USAGE_INPUT_TOKENS: (
        *WORDS[semconv.USAGE_INPUT_TOKENS],
        "ai.usage.inputTokens",
        "ai.usage.promptTokens",
        "ai.usage.tokens",
    ),
    semconv.USAGE_OUTPUT_TOKENS: (
        *WORDS[semconv.USAGE_OUTPUT_TOKENS],
        "ai.usage.outputTokens",
        "ai.usage.completionTokens",
    ),
    semconv.USAGE_CACHE_READ_INPUT_TOKENS: (
        *WORDS[semconv.USAGE_CACHE_READ_INPUT_TOKENS],
        "ai.usage.inputTokenDetails.cacheReadTokens",
        "ai.usage.cachedInputTokens",
    ),
    semconv.USAGE_CACHE_WRITE_INPUT_TOKENS: (
        *WORDS[semconv.USAGE_CACHE_WRITE_INPUT_TOKENS],
        "ai.usage.inputTokenDetails.cacheWriteTokens",
    ),
    semconv.USAGE_REASONING_OUTPUT_TOKENS: (
        *WORDS[semconv.USAGE_REASONING_OUTPUT_TOKENS],
        "ai.usage.reasoningTokens",
    ),
    semconv.SESSION_ID: (
        *WORDS[semconv.SESSION_ID],
        "ai.telemetry.metadata.sessionId",
        "ai.settings.context.sessionId",
    ),
    semconv.USER_ID: (
        *WORDS[semconv.USER_ID],
        "ai.telemetry.metadata.userId",
        "ai.settings.context.userId",
    ),
    semconv.TOOL_NAME: ("ai.toolCall.name",),
}
_INNER = {"doGenerate": "chat", "doStream": "chat", "doEmbed": "embeddings"}


def _operation(told: Told) -> None:
    called = text(told, "ai.operationId")
    if called is None:
        return
    inner = _INNER.get(called.rpartition(".")[2])
    if inner is not None:
        told.setdefault(semconv.OPERATION_NAME, inner)
    elif called == "ai.toolCall":
        told.setdefault(semconv.OPERATION_NAME, "execute_tool")
    else:
        is_no_call(told)


def _provider(told: Told) -> None:
    # `openai.chat`, `anthropic.messages`: the API behind the provider's name is no part of it.
    name = text(told, semconv.PROVIDER_NAME)
    if name is not None and name == text(told, "ai.model.provider"):
        told[semconv.PROVIDER_NAME] = name.partition(".")[0]


def _exclusive_input(told: Told) -> None:
    """Older versions give Anthropic's own figure, which leaves the cached tokens out."""
    if "ai.usage.inputTokenDetails.noCacheTokens" in told:
        return
    read = count(told, semconv.USAGE_CACHE_READ_INPUT_TOKENS)
    total = count(told, semconv.USAGE_INPUT_TOKENS)
    if told.get(semconv.PROVIDER_NAME) == "anthropic" and total is not None and read:
        told[semconv.USAGE_INPUT_TOKENS] = total + read


DIALECT = Dialect(
    marks=("ai.operationId", "ai.model.", "ai.usage."),
    words=_WORDS,
    quirks=(
        _operation,
        _provider,
        *(quirk for quirk in QUIRKS if quirk is not inclusive_input),
        _exclusive_input,
        inclusive_input,
    ),
    content=(
        messages.values("ai.prompt.messages", "ai.response.text"),
        messages.values("ai.toolCall.args", "ai.toolCall.result"),
    ),
)
