"""What the call behind a span cost.

A cost that is on the span already counts first, then the provider's own figure, then the prices,
then what the layer that made the call thinks it cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._pricing import PriceOverrides, Usage, price
from agentpulse_exporter._semconv import count, number, text

MODEL_OPERATIONS = frozenset(
    {"chat", "text_completion", "generate_content", "embeddings", "moderation"}
)
"""One call of a model each. Only these are priced: an agent's usage repeats that of its calls."""

_COUNTS = {
    "input_tokens": semconv.USAGE_INPUT_TOKENS,
    "output_tokens": semconv.USAGE_OUTPUT_TOKENS,
    "cache_read_tokens": semconv.USAGE_CACHE_READ_INPUT_TOKENS,
    "cache_write_tokens": semconv.USAGE_CACHE_WRITE_INPUT_TOKENS,
    "cache_write_1h_tokens": semconv.ANTHROPIC_CACHE_WRITE_1H_TOKENS,
    "input_audio_tokens": semconv.USAGE_AUDIO_INPUT_TOKENS,
    "output_audio_tokens": semconv.USAGE_AUDIO_OUTPUT_TOKENS,
    "cache_audio_read_tokens": semconv.USAGE_AUDIO_CACHE_READ_INPUT_TOKENS,
    "input_image_tokens": semconv.USAGE_IMAGE_INPUT_TOKENS,
    "output_image_tokens": semconv.USAGE_IMAGE_OUTPUT_TOKENS,
    "output_reasoning_tokens": semconv.USAGE_REASONING_OUTPUT_TOKENS,
}

_TIERS = (
    semconv.OPENAI_RESPONSE_SERVICE_TIER,
    semconv.ANTHROPIC_RESPONSE_SERVICE_TIER,
    semconv.OPENAI_REQUEST_SERVICE_TIER,
)


@dataclass(frozen=True, slots=True)
class SpanCost:
    """USD. Input and output are None where only the total is known."""

    total: float
    input: float | None
    output: float | None
    source: str | None
    estimated: bool

    def attributes(self) -> dict[str, str | float | bool]:
        """The span attributes that say it."""
        told = {
            semconv.COST_TOTAL: self.total,
            semconv.COST_INPUT: self.input,
            semconv.COST_OUTPUT: self.output,
            semconv.COST_SOURCE: self.source,
            semconv.COST_ESTIMATED: self.estimated or None,
        }
        return {name: value for name, value in told.items() if value is not None}


def is_model_call(attributes: Mapping[str, object]) -> bool:
    """Whether the span is one call of a model. What a framework answered by itself is none."""
    return (
        attributes.get(semconv.OPERATION_NAME) in MODEL_OPERATIONS
        and semconv.ANSWERED_BY not in attributes
    )


def usage_of(attributes: Mapping[str, object], at: float | None) -> Usage | None:
    """What the span says was used, `at` in seconds since 1970; None where it says nothing of it."""
    counts = {field: count(attributes, name) for field, name in _COUNTS.items()}
    if all(value is None for value in counts.values()):
        return None
    return Usage(
        provider=text(attributes, semconv.PROVIDER_NAME),
        model=text(attributes, semconv.RESPONSE_MODEL) or text(attributes, semconv.REQUEST_MODEL),
        request_model=text(attributes, semconv.REQUEST_MODEL),
        at=at,
        # The tier that served the call decides its price, whatever was asked for.
        service_tier=next((tier for name in _TIERS if (tier := text(attributes, name))), None),
        speed=text(attributes, semconv.SPEED),
        **counts,
    )


def cost_of(
    attributes: Mapping[str, object], at: float | None, overrides: PriceOverrides | None
) -> SpanCost | None:
    """What the span's call cost, or None. Only calls of a model have a cost."""
    estimated = attributes.get(semconv.USAGE_ESTIMATED) is True
    total = number(attributes, semconv.COST_TOTAL)
    if total is not None:
        return SpanCost(
            total,
            number(attributes, semconv.COST_INPUT),
            number(attributes, semconv.COST_OUTPUT),
            text(attributes, semconv.COST_SOURCE),
            estimated or attributes.get(semconv.COST_ESTIMATED) is True,
        )
    if not is_model_call(attributes):
        return None
    reported = number(attributes, semconv.COST_REPORTED)
    if reported is not None:
        return SpanCost(reported, None, None, "provider", estimated=False)
    usage = usage_of(attributes, at)
    cost = price(usage, overrides) if usage is not None else None
    if cost is not None:
        return SpanCost(cost.total, cost.input, cost.output, cost.source, estimated)
    fallback = number(attributes, semconv.COST_FALLBACK)
    if fallback:
        return SpanCost(fallback, None, None, "instrumentation", estimated)
    return None
