"""MLflow: every attribute is JSON text, the usage one object of it."""

from __future__ import annotations

import json

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._dialects import messages
from agentpulse_exporter._dialects.dialect import Dialect, Told, inclusive_input, json_object
from agentpulse_exporter._dialects.genai import QUIRKS, WORDS
from agentpulse_exporter._semconv import count, number, text

_TYPES = {
    "CHAT_MODEL": "chat",
    "LLM": "chat",
    "EMBEDDING": "embeddings",
    "AGENT": "invoke_agent",
    "TOOL": "execute_tool",
    "RETRIEVER": "retrieval",
}
_TOKENS = {
    semconv.USAGE_INPUT_TOKENS: "input_tokens",
    semconv.USAGE_OUTPUT_TOKENS: "output_tokens",
    semconv.USAGE_CACHE_READ_INPUT_TOKENS: "cache_read_input_tokens",
    semconv.USAGE_CACHE_WRITE_INPUT_TOKENS: "cache_creation_input_tokens",
}
_TEXTS = {
    semconv.REQUEST_MODEL: "mlflow.llm.model",
    semconv.RESPONSE_MODEL: "mlflow.llm.model",
    semconv.PROVIDER_NAME: "mlflow.llm.provider",
    semconv.SESSION_ID: "mlflow.trace.session",
    semconv.USER_ID: "mlflow.trace.user",
}


def _plain(told: Told, name: str) -> str | None:
    value = text(told, name)
    if value is None:
        return None
    try:
        parsed = json.loads(value)
    except ValueError:
        return value
    return parsed if isinstance(parsed, str) else value


def _all(told: Told) -> None:
    kind = _plain(told, "mlflow.spanType")
    if kind is not None:
        operation = _TYPES.get(kind)
        name = semconv.OPERATION_NAME if operation else semconv.SPAN_KIND
        told.setdefault(name, operation or kind.lower())
    for name, theirs in _TEXTS.items():
        if (value := _plain(told, theirs)) is not None:
            told.setdefault(name, value)
    usage = json_object(told.get("mlflow.chat.tokenUsage"))
    for name, theirs in _TOKENS.items():
        if (tokens := count(usage, theirs)) is not None:
            told.setdefault(name, tokens)
    cost = number(json_object(told.get("mlflow.llm.cost")), "total_cost")
    if cost:
        told.setdefault(semconv.COST_FALLBACK, cost)


DIALECT = Dialect(
    marks=("mlflow.",),
    words=WORDS,
    quirks=(_all, *QUIRKS, inclusive_input),
    content=(messages.values("mlflow.spanInputs", "mlflow.spanOutputs"),),
)
