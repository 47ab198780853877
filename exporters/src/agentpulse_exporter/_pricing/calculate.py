"""The price of a call: the user's own prices first, then the table's."""

import time
from math import isfinite
from operator import index
from types import UnionType
from typing import Any

from agentpulse_exporter._pricing.overrides import PriceOverrides
from agentpulse_exporter._pricing.table import Context, PriceTable, price_table
from agentpulse_exporter._pricing.tariff import Tariff
from agentpulse_exporter._pricing.usage import Cost, Usage, counts_of
from agentpulse_exporter._shield import shielded

_AS_ASKED: Context = {}


def price(usage: Usage, overrides: PriceOverrides | None = None) -> Cost | None:
    """What a call cost; `None` for an unknown model, or where nothing is known of what it used.

    Never raises: see `usage.py` for how odd usage is read. A tier or mode without a price of its
    own costs what the standard one does.
    """
    cost = shielded("price a call", lambda: _priced(usage, overrides), None)
    # Of absurd counts or prices it may be more than a number can say.
    return cost if cost is not None and isfinite(cost.total) else None


def _priced(usage: Usage, overrides: PriceOverrides | None) -> Cost | None:
    counts = counts_of(usage)
    table = price_table()
    names = [name for name in (usage.model, usage.request_model) if name]
    if overrides is not None:
        own = _own_tariff(usage, names, overrides, table)
        if own is not None:
            return own.cost(counts, "override")
    for name in names:
        found = table.find(usage.provider, name)
        if found is not None:
            # Tiers are the maker's own; where another sells the model, only the standard price is
            # known.
            context = _context(usage) if found.provider == found.model.provider else _AS_ASKED
            at = time.time() if usage.at is None else usage.at
            return found.model.tariff(at, context).cost(counts, table.source)
    return None


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
    """What a call costs in USD; `None` for an unknown model, or without a price table.

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
        overrides: The user's own prices.

    Raises:
        TypeError: An argument is of another type. Nothing else raises.
    """
    _check(str, "the name of a model", model=model)
    _check(str | None, "a text or None", provider=provider, service_tier=service_tier)
    _check(int | float | None, "seconds since 1970 or None", at=at)
    _check(PriceOverrides | None, "PriceOverrides or None", overrides=overrides)
    cost = price(
        Usage(
            provider=provider,
            model=model,
            at=at,
            service_tier=service_tier,
            input_tokens=_tokens("input_tokens", input_tokens),
            output_tokens=_tokens("output_tokens", output_tokens),
            # Where no tokens are known, none from a cache are no figure either.
            cache_read_tokens=_tokens("cache_read_tokens", cache_read_tokens) or None,
            cache_write_tokens=_tokens("cache_write_tokens", cache_write_tokens) or None,
            cache_write_1h_tokens=_tokens("cache_write_1h_tokens", cache_write_1h_tokens) or None,
        ),
        overrides,
    )
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


def _own_tariff(
    usage: Usage, names: list[str], overrides: PriceOverrides, table: PriceTable
) -> Tariff | None:
    providers: tuple[str, ...] = ()
    if usage.provider:
        identity = table.provider_id(usage.provider)
        providers = (
            (usage.provider,) if identity in (None, usage.provider) else (usage.provider, identity)
        )
    for name in names:
        tariff = overrides.tariff(providers, name)
        if tariff is not None:
            return tariff
    return None


def _context(usage: Usage) -> Context:
    if not usage.service_tier and not usage.speed:
        return _AS_ASKED
    tier = (usage.service_tier or "").lower()
    context = {"service_tier": tier, "speed": (usage.speed or "").lower()}
    if tier == "batch":
        context["processing"] = "batch"
    return context
