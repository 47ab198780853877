"""Langfuse and MLflow: usage is a JSON object by the platform's own names."""

from __future__ import annotations

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._dialects import messages
from agentpulse_exporter._dialects.dialect import (
    Dialect,
    Fields,
    inclusive_input,
    kind,
    one_reason,
    provider,
    set_default,
)
from agentpulse_exporter._dialects.genai import NAMES, QUIRKS
from agentpulse_exporter._semconv import count, decoded, fields_of, number, text

_OPERATIONS = {
    "AGENT": "invoke_agent",
    "CHAT_MODEL": "chat",
    "EMBEDDING": "embeddings",
    "GENERATION": "chat",
    "LLM": "chat",
    "RETRIEVER": "retrieval",
    "TOOL": "execute_tool",
}
_FAMILIES = {
    ("chatgpt", "gpt", "o1", "o3", "o4", "text-embedding"): "openai",
    ("claude",): "anthropic",
    ("deepseek",): "deepseek",
    ("gemini",): "gcp.gemini",
    ("grok",): "x_ai",
    ("mistral",): "mistral_ai",
}
"""The makers of models whose names start so; Langfuse records no provider."""
_INPUT = ("prompt_tokens", "input_tokens", "input")
_OUTPUT = ("completion_tokens", "output_tokens", "output")
_READ = ("cache_read_input_tokens", "input_cached_tokens", "input_cache_read", "cache_read")
_WRITTEN = ("cache_creation_input_tokens", "input_cache_creation", "cache_creation", "cache_write")


def _maker(fields: Fields) -> None:
    model = (text(fields, semconv.RESPONSE_MODEL) or "").rpartition("/")[2]
    makers = (maker for starts, maker in _FAMILIES.items() if model.startswith(starts))
    set_default(fields, semconv.PROVIDER_NAME, next(makers, None))


def _usage(fields: Fields) -> None:
    usage = fields_of(fields.get("langfuse.observation.usage_details"))
    cached = fields_of(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
    output = fields_of(usage.get("completion_tokens_details") or usage.get("output_tokens_details"))
    total, read, written = _first(usage, _INPUT), _first(usage, _READ), _first(usage, _WRITTEN)
    if total is not None and "prompt_tokens" not in usage:
        # Langfuse's own form, and Anthropic's: each kind of input stands by itself.
        total += (read or 0) + (written or 0)
    read = read if read is not None else count(cached, "cached_tokens")
    set_default(fields, semconv.USAGE_INPUT_TOKENS, total)
    set_default(fields, semconv.USAGE_OUTPUT_TOKENS, _first(usage, _OUTPUT))
    set_default(fields, semconv.USAGE_CACHE_READ_INPUT_TOKENS, read)
    set_default(fields, semconv.USAGE_CACHE_WRITE_INPUT_TOKENS, written)
    set_default(fields, semconv.USAGE_REASONING_OUTPUT_TOKENS, count(output, "reasoning_tokens"))
    cost = number(fields_of(fields.get("langfuse.observation.cost_details")), "total")
    set_default(fields, semconv.COST_FALLBACK, cost or None)
    if "langfuse.observation.completion_start_time" in fields:
        fields.setdefault(semconv.REQUEST_STREAM, True)


def _first(usage: dict[str, object], keys: tuple[str, ...]) -> int | None:
    return next((found for key in keys if (found := count(usage, key)) is not None), None)


LANGFUSE = Dialect(
    scopes=("langfuse-sdk",),
    marks=("langfuse.",),
    names={
        semconv.REQUEST_MODEL: ("langfuse.observation.model.name",),
        semconv.RESPONSE_MODEL: ("langfuse.observation.model.name",),
        semconv.SESSION_ID: ("langfuse.trace.session_id",),
        semconv.USER_ID: ("langfuse.trace.user_id",),
    },
    quirks=(
        kind("langfuse.observation.type", _OPERATIONS),
        _maker,
        provider,
        _usage,
        inclusive_input,
        one_reason("langfuse.observation.metadata.finish_reason"),
    ),
    content=(messages.values("langfuse.observation.input", "langfuse.observation.output"),),
)

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


def _mlflow(fields: Fields) -> None:
    for name, theirs in _TEXTS.items():
        value = text(fields, theirs)
        as_json = decoded(value)
        set_default(fields, name, as_json if isinstance(as_json, str) else value)
    usage = fields_of(fields.get("mlflow.chat.tokenUsage"))
    for name, theirs in _TOKENS.items():
        set_default(fields, name, count(usage, theirs))
    cost = number(fields_of(fields.get("mlflow.llm.cost")), "total_cost")
    set_default(fields, semconv.COST_FALLBACK, cost or None)


MLFLOW = Dialect(
    marks=("mlflow.",),
    names=NAMES,
    quirks=(kind("mlflow.spanType", _OPERATIONS), _mlflow, *QUIRKS),
    content=(messages.values("mlflow.spanInputs", "mlflow.spanOutputs"),),
)
