"""`agentpulse costs [model]`: prices of models, and the price that a model's name leads to."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Mapping
from decimal import Decimal
from difflib import get_close_matches

from agentpulse_exporter._pricing import PriceOverrides
from agentpulse_exporter._pricing.cost import periods_of, prices_at
from agentpulse_exporter._pricing.table import Found, PriceTable, Provider, price_table
from agentpulse_exporter._pricing.tariff import UNITS, Price, Prices, Record

from agentpulse._output import discard_output, fail

_COLUMNS = ("input", "output", "cache_read", "cache_write")
_PER = {
    "input_characters": "per million characters",
    "audio_hours": "per hour of audio",
    "input_audio_hours": "per hour of audio",
    "web_searches": "per 1,000 searches",
    "storage_searches": "per 1,000 searches",
    "requests": "per 1,000 requests",
    "request": "per request",
}
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
    names = {name.lower(): name for provider in providers for name in _names(provider)}
    close = [names[name] for name in get_close_matches(model.lower(), names, n=5)]
    seller = f" of {identity}" if identity else ""
    hint = (
        f" Did you mean {', '.join(close)}?" if close else " `agentpulse costs` lists the models."
    )
    return (
        f"No price is known for the model {model!r}{seller}.{hint} AGENTPULSE_PRICES sets your own."
    )


def _names(provider: Provider) -> Iterator[str]:
    for name, record in provider.models.items():
        yield name
        clause = record.get("match", ())
        parts = (clause,) if isinstance(clause, (str, Mapping)) else clause
        yield from (part for part in parts if isinstance(part, str))


def _listing(table: PriceTable, identity: str | None) -> Iterator[str]:
    now = time.time()
    yield "USD per million tokens; + is more in a large context: see `agentpulse costs MODEL`"
    for provider in table.providers.values():
        if identity not in (None, provider.id):
            continue
        yield ""
        title = f"{provider.name} ({provider.id})"
        yield f"{title:{_WIDTH}}" + "".join(f"{name.replace('_', ' '):>12}" for name in _COLUMNS)
        for name, record in provider.models.items():
            yield f"  {name:{_WIDTH - 2}}{_row(prices_at(record, now, {}))}"
    yield ""
    yield _source(table)


def _row(prices: Prices) -> str:
    if not prices:
        return f"{'free':>12}"
    if not any(unit in prices for unit in _COLUMNS):
        return "   " + ", ".join(f"{_price(price)} {_per(unit)}" for unit, price in prices.items())
    return "".join(f"{_price(prices[name]) if name in prices else '-':>12}" for name in _COLUMNS)


def _described(table: PriceTable, found: Found) -> Iterator[str]:
    seller, owner = table.providers[found.provider], table.providers[found.maker]
    yield _fact("provider", f"{seller.name} ({seller.id})")
    borrowed = "" if seller is owner else f", at the standard price of {owner.name}"
    yield _fact("model", f"{found.name}{borrowed}")
    yield from _facts(prices_at(found.record, time.time(), {}))
    if not borrowed:
        yield from _variants(found.record)
    yield from _history(found.record)
    yield _fact("source", _source(table))


def _facts(prices: Prices) -> Iterator[str]:
    if not prices:
        yield _fact("price", "free")
    for unit, price in prices.items():
        base, *tiers = (price,) if isinstance(price, (int, Decimal)) else price
        yield _fact(unit.replace("_", " "), f"{_price(base)} {_per(unit)}")
        for start, above in tiers:
            yield _fact("", f"{_price(above)} for calls of more than {start:,} input tokens")


def _variants(record: Record) -> Iterator[str]:
    for served, since, prices in record.get("variants", ()):
        start = f" (since {since})" if since else ""
        yield _fact(" ".join(served.values()), f"{_summary(prices)}{start}")


def _history(record: Record) -> Iterator[str]:
    periods = periods_of(record)
    if len(periods) > 1:
        yield _fact("dated prices", "the last that holds is valid; daily windows are in UTC")
        for when, prices in periods:
            yield _fact(f"  {when or 'at first'}", _summary(prices))


def _summary(prices: Prices) -> str:
    units = [f"{unit.replace('_', ' ')} {_price(price)}" for unit, price in prices.items()]
    return ", ".join(units) or "free"


def _fact(name: str, value: str) -> str:
    return f"  {name:20} {value}"


def _per(unit: str) -> str:
    return _PER.get(unit, "per million tokens") if unit in UNITS else unit


def _price(price: Price) -> str:
    base, *tiers = (price,) if isinstance(price, (int, Decimal)) else price
    whole, _, fraction = f"{base:.6f}".partition(".")
    return f"${whole}.{fraction[:2]}{fraction[2:].rstrip('0')}{'+' if tiers else ''}"


def _source(table: PriceTable) -> str:
    return f"{table.source}, prices of {table.date}"
