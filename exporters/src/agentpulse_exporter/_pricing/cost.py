"""The cost of one call: from the counts of its usage, or from the span that records it.

A cost that is on the span already counts first, then the provider's own figure, then the prices
(the user's own before the table's), then the figure of the layer that made the call.

Reported usage is read so that no reported token is lost: a part larger than its whole, a negative
count or a missing total raises nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from operator import index
from types import UnionType
from typing import Any

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._pricing.overrides import PriceOverrides, own_prices
from agentpulse_exporter._pricing.table import price_table
from agentpulse_exporter._pricing.tariff import Context, Cost, Counts
from agentpulse_exporter._semconv import count, is_model_call, number, text
from agentpulse_exporter._shield import shielded


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The usage of one call.

    Attributes:
        provider: By the GenAI conventions (`openai`, `aws.bedrock`, …); without one the model's
            name decides.
        model: The model that answered.
        request_model: The model asked for, tried where `model` is unknown.
        at: When the call was made, in seconds since 1970; now, if `None`. It chooses among dated
            prices.
        service_tier: The tier that served the call (`default`, `flex`, `priority`, `batch`, …).
        speed: The speed mode that served it (Anthropic's `fast`).
        counts: By the `counts` of `UNITS`; a count that wasn't reported is `None` or absent. Input
            has its cached part, output its reasoning, `cache_write_tokens` those for an hour.
    """

    provider: str | None = None
    model: str | None = None
    request_model: str | None = None
    at: float | None = None
    service_tier: str | None = None
    speed: str | None = None
    counts: Mapping[str, float | None]


_ATTRIBUTES = {
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
# The tier that served the call decides its price, not the one that was asked for.
_TIERS = (
    semconv.OPENAI_RESPONSE_SERVICE_TIER,
    semconv.ANTHROPIC_RESPONSE_SERVICE_TIER,
    semconv.OPENAI_REQUEST_SERVICE_TIER,
)
_AS_ASKED: Context = {}
# Wholes and their parts, in the order in which they are made consistent.
_CACHES = (
    ("cache_write_tokens", ("cache_write_1h_tokens",)),
    ("cache_read_tokens", ("cache_audio_read_tokens", "cache_image_read_tokens")),
    ("input_audio_tokens", ("cache_audio_read_tokens",)),
    ("input_image_tokens", ("cache_image_read_tokens",)),
)
_WHOLES = (
    ("input_tokens", ("input_audio_tokens", "input_image_tokens")),
    ("output_tokens", ("output_audio_tokens", "output_image_tokens", "output_reasoning_tokens")),
)


def cost_of(
    attributes: Mapping[str, object], at: float | None, overrides: PriceOverrides | None
) -> Cost | None:
    """The cost of a span's call, made `at` seconds since 1970. Only model calls have a cost."""
    estimated = attributes.get(semconv.USAGE_ESTIMATED) is True
    total = number(attributes, semconv.COST_TOTAL)
    if total is not None:
        return Cost(
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
        return Cost(reported, None, None, "provider")
    usage = _usage_of(attributes, at)
    cost = price(usage, overrides, estimated=estimated) if usage is not None else None
    fallback = number(attributes, semconv.COST_FALLBACK)
    if cost is None and fallback:
        return Cost(fallback, None, None, "instrumentation", estimated)
    return cost


def _usage_of(attributes: Mapping[str, object], at: float | None) -> Usage | None:
    counts = {field: count(attributes, name) for field, name in _ATTRIBUTES.items()}
    if all(value is None for value in counts.values()):
        return None
    asked = text(attributes, semconv.REQUEST_MODEL)
    return Usage(
        provider=text(attributes, semconv.PROVIDER_NAME),
        model=text(attributes, semconv.RESPONSE_MODEL) or asked,
        request_model=asked,
        at=at,
        service_tier=next((tier for name in _TIERS if (tier := text(attributes, name))), None),
        speed=text(attributes, semconv.SPEED),
        counts=counts,
    )


def price(
    usage: Usage, overrides: PriceOverrides | None = None, *, estimated: bool = False
) -> Cost | None:
    """The cost of a call by the prices; `None` for an unknown model, or where no usage is known.

    A tier or mode without a price of its own costs as much as the standard one.
    """
    counts, table = counts_of(usage), price_table()
    names = [name for name in (usage.model, usage.request_model) if name]
    if overrides is not None:
        sellers = table.sellers(usage.provider)
        for name in names:
            own = overrides.tariff(sellers, name)
            if own is not None:
                return own.cost(counts, "override", estimated=estimated)
    for name in names:
        found = table.find(usage.provider, name)
        if found is not None:
            # Tiers are the maker's own; where another sells the model, only the standard price is
            # known.
            context = _context(usage) if found.provider == found.model.provider else _AS_ASKED
            at = time.time() if usage.at is None else usage.at
            tariff = found.model.tariff(at, context)
            return tariff.cost(counts, table.source, estimated=estimated)
    return None


def _context(usage: Usage) -> Context:
    if not usage.service_tier and not usage.speed:
        return _AS_ASKED
    tier = (usage.service_tier or "").lower()
    context = {"service_tier": tier, "speed": (usage.speed or "").lower()}
    return {**context, "processing": "batch"} if tier == "batch" else context


def counts_of(usage: Usage) -> Counts:
    """The counts reported in `usage`, made consistent with each other; and one request."""
    counts: Counts = {"requests": 1}
    for name, value in usage.counts.items():
        if isinstance(value, int):
            counts[name] = max(value, 0)
        elif isinstance(value, float) and isfinite(value):
            # Tokens come whole. Seconds count as the number that is written, 0.1 as a tenth.
            seconds = name == "audio_seconds"
            counts[name] = Decimal(repr(max(value, 0.0))) if seconds else max(int(value), 0)
    # Most calls report input and output alone, which agree with anything.
    if len(counts) > 1 + sum(whole in counts for whole, _ in _WHOLES):
        _reconcile(counts)
    return counts


def _reconcile(counts: Counts) -> None:
    for whole, parts in _CACHES:
        _fit(counts, whole, parts)
    cached = counts.get("cache_read_tokens", 0) + counts.get("cache_write_tokens", 0)
    reported = counts.get("input_tokens")
    if cached and (reported is None or cached > reported):
        # Some report the input without its cached part, which is Anthropic's own way to count.
        counts["input_tokens"] = cached + (reported or 0)
    for whole, parts in _WHOLES:
        _fit(counts, whole, parts)


def _fit(counts: Counts, whole: str, parts: tuple[str, ...]) -> None:
    """Cuts parts that add up to more than their whole; one that wasn't reported is their sum."""
    rest = counts.get(whole)
    for part in parts:
        count = counts.get(part)
        if not count:
            continue
        if rest is None:
            rest = counts[whole] = sum(counts.get(each, 0) for each in parts)
        counts[part] = min(count, rest)
        rest -= counts[part]


def calculate_cost(
    model: str,
    input_tokens: int,
    output_tokens: int,
    *,
    provider: str | None = None,
    cache_read_tokens: int = 0,
    cache_write_tokens: int = 0,
    cache_write_1h_tokens: int = 0,
    service_tier: str | None = None,
    at: float | None = None,
    overrides: PriceOverrides | None = None,
) -> float | None:
    """The cost of a call in USD; `None` for an unknown model, or without a price table.

    The user's own prices count first: those of the exporter that runs (`prices` of
    `agentpulse.init`), else those of `AGENTPULSE_PRICES`.

    Args:
        model: Any usual spelling of the model's name.
        input_tokens: All input tokens, the cached ones included.
        output_tokens: All output tokens, reasoning included.
        provider: By the GenAI conventions, such as `openai` or `aws.bedrock`; without one the
            model's name decides.
        cache_read_tokens: Input tokens read from a cache.
        cache_write_tokens: Input tokens written to a cache.
        cache_write_1h_tokens: Those of them written for an hour.
        service_tier: The tier that served the call (`flex`, `priority`, `batch`, …).
        at: When, in seconds since 1970, because prices change; now, if `None`.
        overrides: Prices that count instead of the user's own.

    Raises:
        TypeError: An argument is of another type. Nothing else raises.
    """
    _check(str, "the name of a model", model=model)
    _check(str | None, "a text or None", provider=provider, service_tier=service_tier)
    _check(int | float | None, "seconds since 1970 or None", at=at)
    _check(PriceOverrides | None, "PriceOverrides or None", overrides=overrides)
    usage = Usage(
        provider=provider,
        model=model,
        at=at,
        service_tier=service_tier,
        counts={
            "input_tokens": _tokens("input_tokens", input_tokens),
            "output_tokens": _tokens("output_tokens", output_tokens),
            # Where no tokens are known, none from a cache are no figure either.
            "cache_read_tokens": _tokens("cache_read_tokens", cache_read_tokens) or None,
            "cache_write_tokens": _tokens("cache_write_tokens", cache_write_tokens) or None,
            "cache_write_1h_tokens": _tokens("cache_write_1h_tokens", cache_write_1h_tokens)
            or None,
        },
    )
    cost = shielded("price a call", lambda: price(usage, overrides or own_prices()), None)
    return None if cost is None else cost.total


def _tokens(name: str, given: Any) -> Any:
    """A number of tokens. Answers of providers have None where they report none."""
    if given is None or isinstance(given, float):
        return given
    try:
        # Also of the whole numbers that numerical libraries have.
        return index(given)
    except TypeError:
        raise _wrong_type(name, given, "a number of tokens") from None


def _check(kind: type | UnionType, expected: str, **given: object) -> None:
    for name, value in given.items():
        if not isinstance(value, kind):
            raise _wrong_type(name, value, expected)


def _wrong_type(name: str, given: object, expected: str) -> TypeError:
    return TypeError(f"The argument {name} is of type {type(given).__name__}; expected {expected}.")
