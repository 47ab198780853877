"""What a model's answer says of itself, in the forms in which LangChain's integrations tell it.

`usage_metadata` is LangChain's own form, and its input tokens include the cached ones. Older
integrations and models that complete text put the provider's own form into `llm_output`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from agentpulse_instrumentation import _semconv as semconv
from agentpulse_instrumentation._engine.operation import (
    Attributes,
    Table,
    count,
    get,
    integer,
    reported_error,
    text,
)

_OUTPUT = Table(
    {
        "token_usage.prompt_tokens": (semconv.USAGE_INPUT_TOKENS, integer),
        "token_usage.completion_tokens": (semconv.USAGE_OUTPUT_TOKENS, integer),
        "usage.input_tokens": (semconv.USAGE_INPUT_TOKENS, integer),
        "usage.output_tokens": (semconv.USAGE_OUTPUT_TOKENS, integer),
        "model": (semconv.RESPONSE_MODEL, text),
        "model_name": (semconv.RESPONSE_MODEL, text),
        "id": (semconv.RESPONSE_ID, text),
        "service_tier": (semconv.OPENAI_RESPONSE_SERVICE_TIER, text),
        "system_fingerprint": (semconv.OPENAI_SYSTEM_FINGERPRINT, text),
    }
)
_USAGE = "usage_metadata"
_IN, _OUT = f"{_USAGE}.input_token_details", f"{_USAGE}.output_token_details"
_MESSAGE = Table(
    {
        f"{_USAGE}.input_tokens": (semconv.USAGE_INPUT_TOKENS, integer),
        f"{_USAGE}.output_tokens": (semconv.USAGE_OUTPUT_TOKENS, integer),
        f"{_IN}.cache_read": (semconv.USAGE_CACHE_READ_INPUT_TOKENS, count),
        f"{_IN}.cache_creation": (semconv.USAGE_CACHE_WRITE_INPUT_TOKENS, count),
        f"{_IN}.ephemeral_5m_input_tokens": (semconv.ANTHROPIC_CACHE_WRITE_5M_TOKENS, count),
        f"{_IN}.ephemeral_1h_input_tokens": (semconv.ANTHROPIC_CACHE_WRITE_1H_TOKENS, count),
        f"{_IN}.audio": (semconv.USAGE_AUDIO_INPUT_TOKENS, count),
        f"{_OUT}.reasoning": (semconv.USAGE_REASONING_OUTPUT_TOKENS, count),
        f"{_OUT}.audio": (semconv.USAGE_AUDIO_OUTPUT_TOKENS, count),
        "response_metadata.model": (semconv.RESPONSE_MODEL, text),
        "response_metadata.model_name": (semconv.RESPONSE_MODEL, text),
        "response_metadata.id": (semconv.RESPONSE_ID, text),
        "response_metadata.service_tier": (semconv.OPENAI_RESPONSE_SERVICE_TIER, text),
        "response_metadata.system_fingerprint": (semconv.OPENAI_SYSTEM_FINGERPRINT, text),
    }
)
_REASONS = ("finish_reason", "stop_reason", "done_reason")
_LIFETIMES = (semconv.ANTHROPIC_CACHE_WRITE_5M_TOKENS, semconv.ANTHROPIC_CACHE_WRITE_1H_TOKENS)


def generations(response: Any) -> Iterator[Any]:
    """The generations of a result, which may hold those of several prompts."""
    found = get(response, "generations")
    for of_a_prompt in cast("list[Any]", found) if isinstance(found, list) else []:
        if isinstance(of_a_prompt, list):
            yield from cast("list[Any]", of_a_prompt)


def attributes(response: Any) -> Attributes:
    """The answer's attributes."""
    found: Attributes = {}
    _OUTPUT.read(get(response, "llm_output"), found)
    reasons: list[str] = []
    for generation in generations(response):
        message = get(generation, "message")
        # The choices of one answer repeat its usage.
        if message is not None:
            _MESSAGE.read(message, found)
        reasons += _finish_reason(generation, message)
        for node in (get(generation, "generation_info"), get(message, "response_metadata")):
            if (failure := reported_error({"choices": [node]})) is not None:
                found[semconv.ERROR_TYPE] = failure
    if reasons:
        found[semconv.RESPONSE_FINISH_REASONS] = reasons
    # Where the lifetimes are told, ChatAnthropic tells 0 as their total.
    lifetimes = sum(cast("int", found.get(name, 0)) for name in _LIFETIMES)
    if lifetimes > cast("int", found.get(semconv.USAGE_CACHE_WRITE_INPUT_TOKENS, 0)):
        found[semconv.USAGE_CACHE_WRITE_INPUT_TOKENS] = lifetimes
    return found


def is_from_cache(response: Any) -> bool:
    """Whether LangChain's cache answered, which LangChain marks by a cost of 0."""
    usages = [get(get(each, "message"), _USAGE) for each in generations(response)]
    return bool(usages) and all(get(usage, "total_cost") == 0 for usage in usages)


def _finish_reason(generation: Any, message: Any) -> list[str]:
    for node in (get(generation, "generation_info"), get(message, "response_metadata")):
        for name in _REASONS:
            if (reason := text(get(node, name))) is not None:
                return [reason]
    return []
