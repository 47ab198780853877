"""`agentpulse costs MODEL`: the price that a model's name leads to."""

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

from agentpulse._output import fail

_PER = {1: "request", 1_000: "1,000 {}", 3_600: "hour of audio", 1_000_000: "million {}"}
"""What a price is for, by the size of its unit and the name of what is counted."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the description and the arguments."""
    parser.description = "Show the price that a model's name leads to."
    parser.add_argument("model", help="a model's name, as a provider's answer has it")
    parser.add_argument("--provider", help="its seller, for example openai or aws.bedrock")


def run(arguments: argparse.Namespace) -> int:
    """Prints the price; 1 where none is known."""
    try:
        overrides = PriceOverrides.load(os.environ.get("AGENTPULSE_PRICES"))
        facts = list(_facts(arguments.model, arguments.provider, overrides))
    except (LookupError, ValueError) as error:
        return fail(error.args[0])
    print(arguments.model, *(f"  {name:20} {value}" for name, value in facts), sep="\n")
    return 0


def _facts(
    model: str, provider: str | None, overrides: PriceOverrides | None
) -> Iterator[tuple[str, str]]:
    table = price_table()
    own = overrides and overrides.prices(table.sellers(provider), model)
    if own:
        yield "source", "override (AGENTPULSE_PRICES)"
        yield from _by_unit(own)
    elif found := table.find(provider, model):
        yield from _of_table(table, found)
    else:
        raise LookupError(_unknown(table, provider, model))


def _unknown(table: PriceTable, provider: str | None, model: str) -> str:
    if not table.providers:
        return "The price table can't be read; reinstall agentpulse-exporter."
    identity = None if provider is None else table.provider_id(provider)
    if provider is not None and identity is None:
        close = get_close_matches(provider.lower(), table.providers) or sorted(table.providers)
        return f"No prices are known of provider {provider!r}. Try {', '.join(close)}."
    sellers = [table.providers[identity]] if identity else table.providers.values()
    names = {name.lower(): name for seller in sellers for name in seller.models}
    close = ", ".join(names[name] for name in get_close_matches(model.lower(), names, n=5))
    of = f" of {identity}" if identity else ""
    hint = f" Did you mean {close}?" if close else ""
    return f"No price is known for the model {model!r}{of}.{hint} AGENTPULSE_PRICES sets it."


def _of_table(table: PriceTable, found: Found) -> Iterator[tuple[str, str]]:
    seller, owner = table.providers[found.provider], table.providers[found.maker]
    yield "provider", f"{seller.name} ({seller.id})"
    borrowed = "" if seller is owner else f", at the standard price of {owner.name}"
    yield "model", f"{found.name}{borrowed}"
    yield from _by_unit(prices_at(found.record, time.time(), {}))
    for served, since, prices in () if borrowed else found.record.get("variants", ()):
        start = f" (since {since})" if since else ""
        units = (f"{unit.replace('_', ' ')} {_price(price)}" for unit, price in prices.items())
        yield " ".join(served.values()), f"{', '.join(units) or 'free'}{start}"
    yield "source", f"{table.source}, prices of {table.date}"


def _by_unit(prices: Prices) -> Iterator[tuple[str, str]]:
    if not prices:
        yield "price", "free"
    for unit, price in prices.items():
        base, *tiers = (price,) if isinstance(price, (int, Decimal)) else price
        of = UNITS.get(unit)
        per = f"per {_PER[of.per].format(of.counts.rpartition('_')[2])}" if of else unit
        yield unit.replace("_", " "), f"{_price(base)} {per}"
        for start, above in tiers:
            yield "", f"{_price(above)} for calls of more than {start:,} input tokens"


def _price(price: Price) -> str:
    base, *tiers = (price,) if isinstance(price, (int, Decimal)) else price
    whole, _, fraction = f"{base:.6f}".partition(".")
    return f"${whole}.{fraction[:2]}{fraction[2:].rstrip('0')}{'+' if tiers else ''}"
