"""Vercel's AI SDK: newer spans use the conventions' words, older ones `ai.*`.

A call of a model has a span of its own inside that of the function that the program called; only
the inner one (`….doGenerate`, `….doStream`, `….doEmbed`) is the call.
"""

from __future__ import annotations

from agentpulse_exporter import names
from agentpulse_exporter.dialects import said
from agentpulse_exporter.dialects.dialect import Dialect, Told, inclusive_input, is_no_call
from agentpulse_exporter.dialects.genai import QUIRKS, WORDS
from agentpulse_exporter.reading import count, text

_WORDS = {
    **WORDS,
    names.PROVIDER_NAME: (*WORDS[names.PROVIDER_NAME], "ai.model.provider"),
    names.REQUEST_MODEL: ("ai.model.id",),
    names.RESPONSE_MODEL: ("ai.response.model",),
    names.RESPONSE_ID: ("ai.response.id",),
    names.RESPONSE_FINISH_REASONS: ("ai.response.finishReason",),
    names.USAGE_INPUT_TOKENS: (
        *WORDS[names.USAGE_INPUT_TOKENS],
        "ai.usage.inputTokens",
        "ai.usage.promptTokens",
        "ai.usage.tokens",
    ),
    names.USAGE_OUTPUT_TOKENS: (
        *WORDS[names.USAGE_OUTPUT_TOKENS],
        "ai.usage.outputTokens",
        "ai.usage.completionTokens",
    ),
    names.USAGE_CACHE_READ_INPUT_TOKENS: (
        *WORDS[names.USAGE_CACHE_READ_INPUT_TOKENS],
        "ai.usage.inputTokenDetails.cacheReadTokens",
        "ai.usage.cachedInputTokens",
    ),
    names.USAGE_CACHE_WRITE_INPUT_TOKENS: (
        *WORDS[names.USAGE_CACHE_WRITE_INPUT_TOKENS],
        "ai.usage.inputTokenDetails.cacheWriteTokens",
    ),
    names.USAGE_REASONING_OUTPUT_TOKENS: (
        *WORDS[names.USAGE_REASONING_OUTPUT_TOKENS],
        "ai.usage.reasoningTokens",
    ),
    names.SESSION_ID: (
        *WORDS[names.SESSION_ID],
        "ai.telemetry.metadata.sessionId",
        "ai.settings.context.sessionId",
    ),
    names.USER_ID: (
        *WORDS[names.USER_ID],
        "ai.telemetry.metadata.userId",
        "ai.settings.context.userId",
    ),
    names.TOOL_NAME: ("ai.toolCall.name",),
}
_INNER = {"doGenerate": "chat", "doStream": "chat", "doEmbed": "embeddings"}


def _operation(told: Told) -> None:
    called = text(told, "ai.operationId")
    if called is None:
        return
    inner = _INNER.get(called.rpartition(".")[2])
    if inner is not None:
        told.setdefault(names.OPERATION_NAME, inner)
    elif called == "ai.toolCall":
        told.setdefault(names.OPERATION_NAME, "execute_tool")
    else:
        is_no_call(told)


def _provider(told: Told) -> None:
    # `openai.chat`, `anthropic.messages`: the API behind the provider's name is no part of it.
    name = text(told, names.PROVIDER_NAME)
    if name is not None and name == text(told, "ai.model.provider"):
        told[names.PROVIDER_NAME] = name.partition(".")[0]


def _exclusive_input(told: Told) -> None:
    """Older versions give Anthropic's own figure, which leaves the cached tokens out."""
    if "ai.usage.inputTokenDetails.noCacheTokens" in told:
        return
    read = count(told, names.USAGE_CACHE_READ_INPUT_TOKENS)
    total = count(told, names.USAGE_INPUT_TOKENS)
    if told.get(names.PROVIDER_NAME) == "anthropic" and total is not None and read:
        told[names.USAGE_INPUT_TOKENS] = total + read


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
        said.values("ai.prompt.messages", "ai.response.text"),
        said.values("ai.toolCall.args", "ai.toolCall.result"),
    ),
)
