#!/usr/bin/env python3
"""Writes `prices.json`, the exporter's price table, from the data of the installed genai-prices.

    python scripts/build_prices.py            writes the file
    python scripts/build_prices.py --check    fails where the file isn't what this script would
    write

The table keeps what decides a price (how a model is recognised, dated prices and daily windows,
context tiers, batch, flex, priority and fast variants) and drops the rest (descriptions, usage
extraction). One model a line, in the package's order, which matters: the first model that matches
wins.
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genai_prices import types
from genai_prices.data import providers

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "exporters/src/agentpulse_exporter/_pricing/prices.json"

UNITS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "input_audio",
    "output_audio_mtok": "output_audio",
    "cache_audio_read_mtok": "cache_audio_read",
    "input_image_mtok": "input_image",
    "output_image_mtok": "output_image",
    "cache_image_read_mtok": "cache_image_read",
    "output_reasoning_mtok": "output_reasoning",
    "input_mchars": "input_characters",
    "audio_hours": "audio_hours",
    "input_audio_hours": "input_audio_hours",
    "web_searches_kcount": "web_searches",
    "storage_searches_kcount": "storage_searches",
    "requests_kcount": "requests",
}
"""Our name of a unit (`agentpulse_exporter._pricing.tariff`) by the package's."""

UNCOUNTED = {
    "input_annotated_document_kpages",
    "input_document_kpages",
    "input_text_messages_kcount",
    "input_video_mtok",
    "output_citation_mtok",
    "output_video_mtok",
}
"""Units that no recorded call reports. Kept, because models sold by them would look free."""

CONTEXT = {"service_tier", "processing", "speed"}
"""What a recorded call can say of itself; no variant that asks for more could ever be chosen."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        description="Write prices.json from the installed genai-prices."
    )
    parser.add_argument(
        "--check", action="store_true", help="fail if the file is out of date; write nothing"
    )
    check = parser.parse_args(arguments).check
    text = build()
    if not check:
        TARGET.write_text(text, encoding="utf-8")
    elif not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text:
        sys.stderr.write(
            f"{TARGET.relative_to(ROOT)} is out of date; run `nox -s prices` and commit it.\n"
        )
        return 1
    return 0


def build() -> str:
    """The text of `prices.json`."""
    installed = version("genai-prices")
    head = {"source": f"genai-prices {installed}", "date": published(installed)}
    blocks = (provider_block(provider) for provider in providers)
    return json.dumps(head)[:-1] + ', "providers": {\n' + ",\n".join(blocks) + "\n}}\n"


def published(installed: str) -> str:
    """The day when the locked release was published, which is the date of its prices."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    package = next(entry for entry in lock["package"] if entry["name"] == "genai-prices")
    if package["version"] != installed:
        message = f"Installed is genai-prices {installed}, not that of uv.lock; run `uv sync`."
        raise SystemExit(message)
    uploaded: datetime | str = package["sdist"]["upload-time"]
    return str(uploaded)[:10]


def provider_block(provider: types.Provider) -> str:
    """A provider: a line of its own facts, then a line for each of its models."""
    head: dict[str, Any] = {"name": provider.name}
    if provider.provider_match is not None:
        head["provider_match"] = clause(provider.provider_match)
    if provider.model_match is not None:
        head["model_match"] = clause(provider.model_match)
    if provider.fallback_model_providers:
        head["fallback"] = provider.fallback_model_providers
    lines = [f"{text(model.id)}:{text(model_record(provider, model))}" for model in provider.models]
    return f'{text(provider.id)}:{text(head)[:-1]},"models":{{\n' + ",\n".join(lines) + "}}"


def model_record(provider: types.Provider, model: types.ModelInfo) -> dict[str, Any]:
    """What decides a model's price. `match` is left out where it is the model's own name."""
    record: dict[str, Any] = {}
    match = clause(model.match)
    if match != model.id.lower():
        record["match"] = match
    if isinstance(model.prices, types.ModelPrice):
        record["prices"] = prices(model.prices)
    else:
        record["prices"] = [
            [condition(period.constraint), prices(period.prices)] for period in model.prices
        ]
    variants = [
        [variant.when, condition(variant.constraint), prices(variant.prices)]
        for variant in model.price_variants or ()
        if variant.when.keys() <= CONTEXT and prices(variant.prices)
    ]
    if variants:
        record["variants"] = variants
    # The one rule of the package that lives in its code and not in its data.
    if provider.id == "groq" and model.id in {"whisper-large-v3", "whisper-large-v3-turbo"}:
        record["least"] = {"audio_seconds": 10}
    return record


def clause(logic: Any) -> Any:
    """Text means equality, a list any of its members; the rest says what it is. In lower case."""
    match logic:
        case types.ClauseEquals(equals=value):
            return value.lower()
        case types.ClauseStartsWith(starts_with=value):
            return {"starts_with": value.lower()}
        case types.ClauseEndsWith(ends_with=value):
            return {"ends_with": value.lower()}
        case types.ClauseContains(contains=value):
            return {"contains": value.lower()}
        case types.ClauseRegex(regex=value):
            return {"regex": value}
        case types.ClauseOr(or_=parts):
            return [clause(part) for part in parts] if len(parts) > 1 else clause(parts[0])
        case types.ClauseAnd(and_=parts):
            return {"and": [clause(part) for part in parts]}
        case _:
            message = f"genai-prices has a new kind of clause, {logic!r}; extend `table.matches`."
            raise SystemExit(message)


def condition(constraint: Any) -> str | None:
    """A first day (`2026-03-13`) or a daily window in UTC (`00:30-16:30`)."""
    match constraint:
        case None:
            return None
        case types.StartDateConstraint(start_date=start):
            return start.isoformat()
        case types.TimeOfDateConstraint(start_time=start, end_time=end):
            return f"{utc(start)}-{utc(end)}"
        case _:
            message = f"genai-prices has a new constraint, {constraint!r}; extend `cost._holds`."
            raise SystemExit(message)


def utc(value: time) -> str:
    """The time of day in UTC; without a zone it is UTC already."""
    if value.tzinfo is not None:
        value = datetime.combine(date(2000, 1, 1), value).astimezone(UTC).time()
    return value.isoformat(timespec="minutes" if not value.second else "seconds")


def prices(price: types.ModelPrice) -> dict[str, Any]:
    """Each unit's price: a number, or `[number, [tokens, number], …]` for context tiers."""
    found: dict[str, Any] = {}
    for key, value in vars(price).items():
        if value is None:
            continue
        if key not in UNITS and key not in UNCOUNTED:
            message = f"genai-prices has a new unit, {key!r}; add it to `tariff.UNITS` and here."
            raise SystemExit(message)
        found[UNITS.get(key, key)] = (
            [number(value.base), *([tier.start, number(tier.price)] for tier in value.tiers)]
            if isinstance(value, types.TieredPrices)
            else number(value)
        )
    order: Iterable[str] = [*UNITS.values(), *sorted(UNCOUNTED)]
    return {unit: found[unit] for unit in order if unit in found}


def number(value: Decimal) -> int | float:
    """The price as JSON writes it, which must be exactly the price."""
    whole = int(value)
    if whole == value:
        return whole
    if Decimal(repr(float(value))) != value:
        message = f"The price {value} can't be written as a JSON number without a loss."
        raise SystemExit(message)
    return float(value)


def text(value: Any) -> str:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


if __name__ == "__main__":
    raise SystemExit(main())
