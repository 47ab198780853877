"""`agentpulse costs [model]`: prices of models, and the price that a model's name leads to."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from decimal import Decimal
from difflib import get_close_matches

from agentpulse_exporter._pricing import PriceOverrides
from agentpulse_exporter._pricing.cost import prices_at
from agentpulse_exporter._pricing.table import Found, PriceTable, price_table
from agentpulse_exporter._pricing.tariff import UNITS, Price, Prices

from agentpulse._output import discard_output, fail

_COLUMNS = ("input", "output", "cache_read", "cache_write")
_PER = {1: "request", 1_000: "1,000 {}", 3_600: "hour of audio", 1_000_000: "million {}"}
"""What a price is for, by the size of its unit and the name of what is counted."""
_WIDTH = 52


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the description and the arguments."""
    parser.description = "List the models with a price, or show the price that a name leads to."
    parser.add_argument("model", nargs="?", help="a model's name, as a provider's answer has it")
    parser.add_argument("--provider", help="only this provider, for example openai or aws.bedrock")


def run(arguments: argparse.Namespace) -> int:
    """Prints the prices; 1 where none is known."""
    try:
        overrides = PriceOverrides.load(os.environ.get("AGENTPULSE_PRICES"))
        lines = _lines(arguments.model, arguments.provider, overrides)
    except (LookupError, ValueError) as error:
        return fail(error.args[0])
    try:
        print("\n".join(lines), flush=True)
    except BrokenPipeError:
        discard_output()  # the list is long, so it is piped to `head`
    return 0


def _lines(model: str | None, provider: str | None, overrides: PriceOverrides | None) -> list[str]:
    table = price_table()
    if not table.providers:
        message = "The price table can't be read; reinstall agentpulse-exporter."
        raise LookupError(message)
    identity = None if provider is None else _provider_id(table, provider)
    if model is None:
        return list(_listing(table, identity))
    own = overrides and overrides.prices(table.sellers(provider), model)
    if own:
        return [model, _fact("source", "override (AGENTPULSE_PRICES)"), *_facts(own)]
    found = table.find(provider, model)
    if found is None:
        raise LookupError(_unknown(table, identity, model))
    return [model, *_described(table, found)]


def _provider_id(table: PriceTable, provider: str) -> str:
    identity = table.provider_id(provider)
    if identity is None:
        close = get_close_matches(provider.lower(), table.providers, n=3) or sorted(table.providers)
        message = f"No prices are known of provider {provider!r}. Try {', '.join(close)}."
        raise LookupError(message)
    return identity


def _unknown(table: PriceTable, identity: str | None, model: str) -> str:
    providers = [table.providers[identity]] if identity else table.providers.values()
    names = {name.lower(): name for provider in providers for name in provider.models}
    close = [names[name] for name in get_close_matches(model.lower(), names, n=5)]
    seller = f" of {identity}" if identity else ""
    hint = f"Did you mean {', '.join(close)}?" if close else "`agentpulse costs` lists the models."
    return f"No price is known for the model {model!r}{seller}. {hint} AGENTPULSE_PRICES sets it."


def _listing(table: PriceTable, identity: str | None) -> Iterator[str]:
    now = time.time()
    yield "USD per million tokens; + is more in a large context: see `agentpulse costs MODEL`"
    for provider in table.providers.values():
        if identity not in (None, provider.id):
            continue
        title = f"{provider.name} ({provider.id})"
        columns = "".join(f"{name.replace('_', ' '):>12}" for name in _COLUMNS)
        yield f"\n{title:{_WIDTH}}{columns}"
        for name, record in provider.models.items():
            yield f"  {name:{_WIDTH - 2}}{_row(prices_at(record, now, {}))}"
    yield f"\n{_source(table)}"


def _row(prices: Prices) -> str:
    if any(unit in prices for unit in _COLUMNS):
        cells = (_price(prices[name]) if name in prices else "-" for name in _COLUMNS)
        return "".join(f"{cell:>12}" for cell in cells)
    return f"   {', '.join(map(_priced, prices, prices.values())) or 'free':>9}"


def _described(table: PriceTable, found: Found) -> Iterator[str]:
    seller, owner = table.providers[found.provider], table.providers[found.maker]
    yield _fact("provider", f"{seller.name} ({seller.id})")
    borrowed = "" if seller is owner else f", at the standard price of {owner.name}"
    yield _fact("model", f"{found.name}{borrowed}")
    yield from _facts(prices_at(found.record, time.time(), {}))
    for served, since, prices in () if borrowed else found.record.get("variants", ()):
        start = f" (since {since})" if since else ""
        units = (f"{unit.replace('_', ' ')} {_price(price)}" for unit, price in prices.items())
        yield _fact(" ".join(served.values()), f"{', '.join(units) or 'free'}{start}")
    yield _fact("source", _source(table))


def _facts(prices: Prices) -> Iterator[str]:
    if not prices:
        yield _fact("price", "free")
    for unit, price in prices.items():
        base, *tiers = (price,) if isinstance(price, (int, Decimal)) else price
        yield _fact(unit.replace("_", " "), _priced(unit, base))
        for start, above in tiers:
            yield _fact("", f"{_price(above)} for calls of more than {start:,} input tokens")


def _fact(name: str, value: str) -> str:
    return f"  {name:20} {value}"


def _priced(unit: str, price: Price) -> str:
    if (of := UNITS.get(unit)) is None:
        return f"{_price(price)} {unit}"
    return f"{_price(price)} per {_PER[of.per].format(of.counts.rpartition('_')[2])}"


def _price(price: Price) -> str:
    base, *tiers = (price,) if isinstance(price, (int, Decimal)) else price
    whole, _, fraction = f"{base:.6f}".partition(".")
    return f"${whole}.{fraction[:2]}{fraction[2:].rstrip('0')}{'+' if tiers else ''}"


def _source(table: PriceTable) -> str:
    return f"{table.source}, prices of {table.date}"
