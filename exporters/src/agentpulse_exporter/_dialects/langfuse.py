"""Langfuse: observations, whose usage is a JSON object in the client's own words."""

from __future__ import annotations

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._dialects import messages
from agentpulse_exporter._dialects.dialect import Dialect, Told, inclusive_input, json_object
from agentpulse_exporter._semconv import count, number, text

_TYPE = "langfuse.observation.type"
_WORDS = {
    semconv.REQUEST_MODEL: ("langfuse.observation.model.name",),
    semconv.RESPONSE_MODEL: ("langfuse.observation.model.name",),
    semconv.SESSION_ID: ("langfuse.trace.session_id",),
    semconv.USER_ID: ("langfuse.trace.user_id",),
}
_TYPES = {
    "generation": "chat",
    "embedding": "embeddings",
    "agent": "invoke_agent",
    "tool": "execute_tool",
    "retriever": "retrieval",
}
_FAMILIES = (
    ("claude", "anthropic"),
    ("gemini", "gcp.gemini"),
    ("gpt", "openai"),
    ("chatgpt", "openai"),
    ("text-embedding", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("mistral", "mistral_ai"),
    ("deepseek", "deepseek"),
    ("grok", "x_ai"),
)
_READ = ("cache_read_input_tokens", "input_cached_tokens", "input_cache_read", "cache_read")
_WRITTEN = ("cache_creation_input_tokens", "input_cache_creation", "cache_creation", "cache_write")


def _operation(told: Told) -> None:
    kind = text(told, _TYPE)
    if kind is None:
        return
    operation = _TYPES.get(kind)
    told.setdefault(semconv.OPERATION_NAME if operation else semconv.SPAN_KIND, operation or kind)


def _provider(told: Told) -> None:
    model = (text(told, semconv.RESPONSE_MODEL) or "").rpartition("/")[2]
    family = next((provider for start, provider in _FAMILIES if model.startswith(start)), None)
    if family is not None:
        told.setdefault(semconv.PROVIDER_NAME, family)


def _usage(told: Told) -> None:
    usage = json_object(told.get("langfuse.observation.usage_details"))
    cached = json_object(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
    produced = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
    read = _first(usage, *_READ)
    written = _first(usage, *_WRITTEN)
    total = _first(usage, "prompt_tokens", "input_tokens", "input")
    if total is not None and "prompt_tokens" not in usage and (read or written):
        # Langfuse's own form, and Anthropic's: each kind of input stands by itself.
        total += (read or 0) + (written or 0)
    read = read if read is not None else _first(cached, "cached_tokens")
    _set(told, semconv.USAGE_INPUT_TOKENS, total)
    output = _first(usage, "completion_tokens", "output_tokens", "output")
    _set(told, semconv.USAGE_OUTPUT_TOKENS, output)
    _set(told, semconv.USAGE_CACHE_READ_INPUT_TOKENS, read)
    _set(told, semconv.USAGE_CACHE_WRITE_INPUT_TOKENS, written)
    reasoning = _first(json_object(produced), "reasoning_tokens")
    _set(told, semconv.USAGE_REASONING_OUTPUT_TOKENS, reasoning)


def _cost(told: Told) -> None:
    cost = number(json_object(told.get("langfuse.observation.cost_details")), "total")
    if cost:
        told.setdefault(semconv.COST_FALLBACK, cost)


def _stream(told: Told) -> None:
    if "langfuse.observation.completion_start_time" in told:
        told.setdefault(semconv.REQUEST_STREAM, True)
    reason = (text(told, "langfuse.observation.metadata.finish_reason") or "").strip('"')
    if reason:
        told.setdefault(semconv.RESPONSE_FINISH_REASONS, (reason,))


def _first(usage: dict[str, object], *keys: str) -> int | None:
    return next((found for key in keys if (found := count(usage, key)) is not None), None)


def _set(told: Told, name: str, value: int | None) -> None:
    if value is not None:
        told.setdefault(name, value)


DIALECT = Dialect(
    scopes=("langfuse-sdk",),
    marks=("langfuse.",),
    words=_WORDS,
    quirks=(_operation, _provider, _usage, inclusive_input, _stream, _cost),
    content=(messages.values("langfuse.observation.input", "langfuse.observation.output"),),
)
