"""The cost of one call: from the counts of its usage, or from the span that records it.

A cost that is on the span already counts first, then the provider's own figure, then the prices
(the user's own before the table's), then the figure of the layer that made the call.

Reported usage is read so that no reported token is lost: a part larger than its whole, a negative
count or a missing total raises nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Context as DecimalContext
from decimal import Decimal
from functools import partial
from math import isfinite
from operator import index
from typing import Any

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._pricing.overrides import PriceOverrides, own_prices
from agentpulse_exporter._pricing.table import price_table
from agentpulse_exporter._pricing.tariff import (
    UNITS,
    Context,
    Counts,
    Number,
    Price,
    Prices,
)
from agentpulse_exporter._semconv import count, is_model_call, number, text
from agentpulse_exporter._shield import shielded


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a call in USD.

    `total` may be more than `input` and `output` together: requests and searches are neither.
    Input and output are None where only the total is known. `source` is `provider` (its own
    figure), `override` (the user's prices), `genai-prices <version>` or `instrumentation`.
    """

    total: float
    input: float | None
    output: float | None
    source: str | None
    estimated: bool = False

    def attributes(self) -> dict[str, str | float | bool]:
        """The cost as span attributes."""
        found = {
            semconv.COST_TOTAL: self.total,
            semconv.COST_INPUT: self.input,
            semconv.COST_OUTPUT: self.output,
            semconv.COST_SOURCE: self.source,
            semconv.COST_ESTIMATED: self.estimated or None,
        }
        return {name: value for name, value in found.items() if value is not None}


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
_PARTS_FIRST = tuple(reversed(UNITS.items()))
_EXACT = DecimalContext(prec=40, traps=[])
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
    cost = _by_prices(attributes, at, overrides)
    fallback = number(attributes, semconv.COST_FALLBACK)
    if cost is None and fallback is not None and fallback > 0:
        cost = Cost(fallback, None, None, "instrumentation")
    return replace(cost, estimated=True) if cost is not None and estimated else cost


def _by_prices(
    attributes: Mapping[str, object], at: float | None, overrides: PriceOverrides | None
) -> Cost | None:
    counts = {field: count(attributes, name) for field, name in _ATTRIBUTES.items()}
    if all(value is None for value in counts.values()):
        return None
    return price(
        counts,
        text(attributes, semconv.RESPONSE_MODEL),
        text(attributes, semconv.REQUEST_MODEL),
        provider=text(attributes, semconv.PROVIDER_NAME),
        at=at,
        service_tier=next((tier for name in _TIERS if (tier := text(attributes, name))), None),
        speed=text(attributes, semconv.SPEED),
        overrides=overrides,
    )


def price(
    counts: Mapping[str, float | None],
    *models: str | None,
    provider: str | None = None,
    at: float | None = None,
    service_tier: str | None = None,
    speed: str | None = None,
    overrides: PriceOverrides | None = None,
) -> Cost | None:
    """The cost of a call by the prices; `None` for an unknown model, or where no usage is known.

    A tier or mode without a price of its own costs as much as the standard one.

    Args:
        counts: By the `counts` of `UNITS`; a count that wasn't reported is `None` or absent. Input
            has its cached part, output its reasoning, `cache_write_tokens` those for an hour.
        models: The model that answered, then the one asked for, tried where that is unknown.
        provider: By the GenAI conventions; without one the model's name decides.
        at: When the call was made, in seconds since 1970; now, if `None`.
        service_tier: The tier that served the call (`default`, `flex`, `priority`, `batch`, …).
        speed: The speed mode that served it (Anthropic's `fast`).
        overrides: The user's own prices.
    """
    known, table = counts_of(counts), price_table()
    names = [name for name in models if name]
    for name in names if overrides is not None else ():
        own = overrides and overrides.prices(table.sellers(provider), name)
        if own is not None:
            return bill(own, known, "override")
    for name in names:
        found = table.find(provider, name)
        if found is not None:
            model = found.model
            # Tiers are the maker's own; where another sells the model, only the standard price is
            # known.
            is_maker = found.provider == model.provider
            context = _context(service_tier, speed) if is_maker else _AS_ASKED
            prices = model.prices(time.time() if at is None else at, context)
            return bill(prices, known, table.source, model.record.get("least"))
    return None


def _context(service_tier: str | None, speed: str | None) -> Context:
    if not service_tier and not speed:
        return _AS_ASKED
    tier = (service_tier or "").lower()
    context = {"service_tier": tier, "speed": (speed or "").lower()}
    return {**context, "processing": "batch"} if tier == "batch" else context


def bill(
    prices: Prices, counts: Counts, source: str, least: Mapping[str, Number] | None = None
) -> Cost | None:
    """The cost of these counts; `None` if nothing was counted that this model is sold by.

    Sums are exact: prices and sums are decimals of 40 digits, in a context of our own, because a
    program may have set the decimal module to round or to raise. Floats appear in the result alone.
    """
    if not prices:
        # A free model; the table writes no price for it.
        return Cost(0.0, 0.0, 0.0, source)
    size = counts.get("input_tokens", 0)
    sums: dict[str | None, Decimal] = {"input": Decimal(0), "output": Decimal(0), None: Decimal(0)}
    billed: dict[str, Number] = {}
    """Counts that parts have taken out of each unit, and 0 of those that none has."""
    for name, unit in _PARTS_FIRST:
        count = counts.get(unit.counts) if name in prices else None
        if count is None:
            continue
        if count and least:
            count = max(count, least.get(unit.counts, 0))
        # Parts that overlap can add up to more than their whole; the rest is nothing then.
        rest = max(count - billed.setdefault(name, 0), 0)
        if rest:
            amount = _EXACT.multiply(_at_size(prices[name], size), rest)
            amount = _EXACT.divide(amount, unit.per)
            sums[unit.direction] = _EXACT.add(sums[unit.direction], amount)
            for whole in unit.within:
                billed[whole] = billed.get(whole, 0) + rest
    total = float(_EXACT.add(_EXACT.add(sums["input"], sums["output"]), sums[None]))
    # Of absurd counts or prices it may be more than a number can hold.
    if not billed or not isfinite(total):
        return None
    return Cost(total, float(sums["input"]), float(sums["output"]), source)


def _at_size(price: Price, size: Number) -> Number:
    if not isinstance(price, Sequence):
        return price
    base, *steps = price
    # The highest tier that is reached decides.
    return max(((start, above) for start, above in steps if size > start), default=(0, base))[1]


def counts_of(reported: Mapping[str, float | None]) -> Counts:
    """The counts that were reported, made consistent with each other; and one request."""
    counts: Counts = {"requests": 1}
    for name, value in reported.items():
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
    for name, given, kind, expected in (
        ("model", model, str, "the name of a model"),
        ("provider", provider, str | None, "a text or None"),
        ("service_tier", service_tier, str | None, "a text or None"),
        ("at", at, int | float | None, "seconds since 1970 or None"),
        ("overrides", overrides, PriceOverrides | None, "PriceOverrides or None"),
    ):
        if not isinstance(given, kind):
            raise _wrong_type(name, given, expected)
    counts = {
        "input_tokens": _tokens("input_tokens", input_tokens),
        "output_tokens": _tokens("output_tokens", output_tokens),
        # Where no tokens are known, none from a cache are no figure either.
        "cache_read_tokens": _tokens("cache_read_tokens", cache_read_tokens) or None,
        "cache_write_tokens": _tokens("cache_write_tokens", cache_write_tokens) or None,
        "cache_write_1h_tokens": _tokens("cache_write_1h_tokens", cache_write_1h_tokens) or None,
    }
    own = overrides or own_prices()
    made = partial(price, counts, model, provider=provider, at=at, service_tier=service_tier)
    cost = shielded("price a call", partial(made, overrides=own), None)
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


def _wrong_type(name: str, given: object, expected: str) -> TypeError:
    return TypeError(f"The argument {name} is of type {type(given).__name__}; expected {expected}.")
