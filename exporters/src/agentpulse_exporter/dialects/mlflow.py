"""MLflow: every attribute is JSON text, the usage one object of it."""

from __future__ import annotations

import json

from agentpulse_exporter import names
from agentpulse_exporter.dialects import said
from agentpulse_exporter.dialects.dialect import Dialect, Told, inclusive_input, json_object
from agentpulse_exporter.dialects.genai import QUIRKS, WORDS
from agentpulse_exporter.reading import count, number, text

_TYPES = {
    "CHAT_MODEL": "chat",
    "LLM": "chat",
    "EMBEDDING": "embeddings",
    "AGENT": "invoke_agent",
    "TOOL": "execute_tool",
    "RETRIEVER": "retrieval",
}
_TOKENS = {
    names.USAGE_INPUT_TOKENS: "input_tokens",
    names.USAGE_OUTPUT_TOKENS: "output_tokens",
    names.USAGE_CACHE_READ_INPUT_TOKENS: "cache_read_input_tokens",
    names.USAGE_CACHE_WRITE_INPUT_TOKENS: "cache_creation_input_tokens",
}
_TEXTS = {
    names.REQUEST_MODEL: "mlflow.llm.model",
    names.RESPONSE_MODEL: "mlflow.llm.model",
    names.PROVIDER_NAME: "mlflow.llm.provider",
    names.SESSION_ID: "mlflow.trace.session",
    names.USER_ID: "mlflow.trace.user",
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
        name = names.OPERATION_NAME if operation else names.SPAN_KIND
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
        told.setdefault(names.COST_FALLBACK, cost)


DIALECT = Dialect(
    marks=("mlflow.",),
    words=WORDS,
    quirks=(_all, *QUIRKS, inclusive_input),
    content=(said.values("mlflow.spanInputs", "mlflow.spanOutputs"),),
)
