"""The cost of one call: from the counts of its usage, or from the span that records it.

A cost that is already on the span counts first, then the provider's own figure, then the prices
(the user's own before the table's), then the figure of the layer that made the call.

No reported token is lost: a part larger than its whole, a negative count or a missing total never
raises.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Context as DecimalContext
from decimal import Decimal
from math import isfinite

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._pricing.overrides import PriceOverrides
from agentpulse_exporter._pricing.table import price_table
from agentpulse_exporter._pricing.tariff import UNITS, Counts, Number, Price, Prices, Record
from agentpulse_exporter._values import count, is_model_call, number, text


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a call in USD.

    `total` may be more than `input` and `output` together: it also has requests and searches.
    `input` and `output` are None if only the total is known. `source` is `provider` (its own
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


USAGE = {
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
"""The counts of a call, and the attributes that hold them."""
# The tier that served the call decides its price, not the requested tier.
_TIERS = (
    *(semconv.OPENAI_RESPONSE_SERVICE_TIER, semconv.ANTHROPIC_RESPONSE_SERVICE_TIER),
    semconv.OPENAI_REQUEST_SERVICE_TIER,
)
_PARTS_FIRST = tuple(reversed(UNITS.items()))
_EXACT = DecimalContext(prec=40, traps=[])
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
        read, written = (number(attributes, n) for n in (semconv.COST_INPUT, semconv.COST_OUTPUT))
        estimated |= attributes.get(semconv.COST_ESTIMATED) is True
        return Cost(total, read, written, text(attributes, semconv.COST_SOURCE), estimated)
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
    reported = ((unit, count(attributes, name)) for unit, name in USAGE.items())
    counts = {unit: value for unit, value in reported if value is not None}
    if not counts:
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
    """The cost of a call by the prices; `None` if the model or its usage is unknown.

    A tier or mode without a price of its own costs as much as the standard one.

    Args:
        counts: Counts keyed by `Unit.counts`; an unreported count is `None` or absent. Input
            includes cached tokens, output includes reasoning, and `cache_write_tokens` includes
            the writes for an hour.
        models: The model that answered, then the requested model, used if the first is unknown.
        provider: By the GenAI conventions; without one the model's name decides.
        at: When the call was made, in seconds since 1970; now, if `None`.
        service_tier: The tier that served the call (`default`, `flex`, `priority`, `batch`, …).
        speed: The speed mode that served it (Anthropic's `fast`).
        overrides: The user's own prices.
    """
    known, table = counts_of(counts), price_table()
    names = [name for name in models if name]
    tier = (service_tier or "").lower()
    context = {"service_tier": tier, "speed": (speed or "").lower()}
    context["processing"] = "batch" if tier == "batch" else ""
    for name in names if overrides is not None else ():
        own = overrides and overrides.prices(table.sellers(provider), name)
        if own is not None:
            return bill(own, known, "override")
    for name in names:
        found = table.find(provider, name)
        if found is not None:
            # Tiers are the maker's own; if another provider sells the model, only the standard
            # price is known.
            served = context if found.provider == found.maker else {}
            prices = prices_at(found.record, time.time() if at is None else at, served)
            return bill(prices, known, table.source, found.record.get("least"))
    return None


def prices_at(record: Record, at: float, context: Mapping[str, str]) -> Prices:
    """The prices of a model at a time (seconds since 1970) for a call served in this way."""
    prices, asked = record["prices"], context.items()
    periods = [(None, prices)] if isinstance(prices, Mapping) else prices
    holding = [prices for when, prices in periods if _holds(when, at)]
    # The last period that holds counts; if no period holds, the first counts.
    found = holding[-1] if holding else periods[0][1]
    # The first variant that prices a unit wins, so the last is laid on first.
    for served, when, prices in reversed(record.get("variants", ())):
        if served.items() <= asked and _holds(when, at):
            found = {**found, **prices}
    return found


def _holds(when: str | None, at: float) -> bool:
    """Whether `when` holds: from a day on (`2026-03-13`), or daily in UTC (`00:30-16:30`)."""
    if when is None:
        return True
    if ":" not in when:
        return at >= datetime.fromisoformat(f"{when}T00:00Z").timestamp()
    (first, last), now = when.split("-"), time.strftime("%H:%M", time.gmtime(at % 86_400))
    return first <= now < last if first <= last else not last <= now < first


def bill(
    prices: Prices, counts: Counts, source: str, least: Mapping[str, Number] | None = None
) -> Cost | None:
    """The cost of these counts; `None` if no count has a price for this model.

    Sums are exact: prices and sums are decimals of 40 digits, in a context of our own, because a
    program may have set the decimal module to round or to raise. Only the result has floats.
    """
    if not prices:
        # A free model; the table writes no price for it.
        return Cost(0.0, 0.0, 0.0, source)
    size = counts.get("input_tokens", 0)
    usd: dict[str | None, Decimal] = dict.fromkeys(("input", "output", None), Decimal(0))
    billed: dict[str, Number] = {}
    """For each unit, the count that was already billed by its parts."""
    for name, unit in _PARTS_FIRST:
        count = counts.get(unit.counts) if name in prices else None
        if count is None:
            continue
        if count and least:
            count = max(count, least.get(unit.counts, 0))
        # Overlapping parts can add up to more than their whole; then the rest is 0.
        rest = max(count - billed.setdefault(name, 0), 0)
        if rest:
            amount = _EXACT.divide(_EXACT.multiply(_at_size(prices[name], size), rest), unit.per)
            usd[unit.direction] = _EXACT.add(usd[unit.direction], amount)
            for whole in unit.within:
                billed[whole] = billed.get(whole, 0) + rest
    total = float(_EXACT.add(_EXACT.add(usd["input"], usd["output"]), usd[None]))
    found = Cost(total, float(usd["input"]), float(usd["output"]), source)
    # A float may be too small for it.
    return found if billed and isfinite(total) else None


def _at_size(price: Price, size: Number) -> Number:
    if isinstance(price, (int, Decimal)):
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
            # Tokens are whole numbers. Seconds count as the written decimal, 0.1 as a tenth.
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
        # Some report the input without its cached part, as Anthropic does.
        counts["input_tokens"] = cached + (reported or 0)
    for whole, parts in _WHOLES:
        _fit(counts, whole, parts)


def _fit(counts: Counts, whole: str, parts: tuple[str, ...]) -> None:
    """Cuts parts that add up to more than their whole. An unreported whole is their sum."""
    rest = counts.get(whole)
    for part in parts:
        count = counts.get(part)
        if not count:
            continue
        if rest is None:
            rest = counts[whole] = sum(counts.get(each, 0) for each in parts)
        counts[part] = min(count, rest)
        rest -= counts[part]
