"""A tariff: the prices of one model at one moment, compiled to price a call's counts in one pass.

Sums are exact: prices and sums are decimals of 40 digits, in a context of our own, because a
program may have set the decimal module to round or to raise. Floats appear in the result alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any, Literal

from agentpulse_exporter._pricing.usage import Cost, Counts

# The units that calls are billed in: the count each multiplies, and which are parts of which.
#
# A part that has a price of its own is taken out of the whole it belongs to: cached input tokens
# are billed at the price of `cache_read`, and as plain `input` only where a model has no such
# price.

Direction = Literal["input", "output"]


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of billing. Its price is in USD per `per` of `counts`, a field of `Usage`."""

    counts: str
    per: int
    direction: Direction | None
    within: tuple[str, ...] = ()


_MILLION = 1_000_000
_HOUR = 3_600

# From the whole to the part.
UNITS = {
    "input": Unit("input_tokens", _MILLION, "input"),
    "output": Unit("output_tokens", _MILLION, "output"),
    "cache_read": Unit("cache_read_tokens", _MILLION, "input", ("input",)),
    "cache_write": Unit("cache_write_tokens", _MILLION, "input", ("input",)),
    "cache_write_1h": Unit("cache_write_1h_tokens", _MILLION, "input", ("input", "cache_write")),
    "input_audio": Unit("input_audio_tokens", _MILLION, "input", ("input",)),
    "output_audio": Unit("output_audio_tokens", _MILLION, "output", ("output",)),
    "cache_audio_read": Unit(
        "cache_audio_read_tokens", _MILLION, "input", ("input", "cache_read", "input_audio")
    ),
    "input_image": Unit("input_image_tokens", _MILLION, "input", ("input",)),
    "output_image": Unit("output_image_tokens", _MILLION, "output", ("output",)),
    "cache_image_read": Unit(
        "cache_image_read_tokens", _MILLION, "input", ("input", "cache_read", "input_image")
    ),
    "output_reasoning": Unit("output_reasoning_tokens", _MILLION, "output", ("output",)),
    "input_characters": Unit("input_characters", _MILLION, "input"),
    "audio_hours": Unit("audio_seconds", _HOUR, None),
    "input_audio_hours": Unit("audio_seconds", _HOUR, "input", ("audio_hours",)),
    "web_searches": Unit("web_searches", 1_000, None),
    "storage_searches": Unit("storage_searches", 1_000, None),
    "requests": Unit("requests", 1_000, None),
    "request": Unit("requests", 1, None),
}
"""By the names that the price table and, where they make sense there, the user's own prices use."""

Number = int | Decimal
Price = Number | Sequence[Any]
"""A number, or `[number, [tokens, number], …]`: another one above so many input tokens."""
Prices = Mapping[str, Price]
"""By unit (`units.py`)."""

_EXACT = Context(prec=40, traps=[])
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class _Line:
    """What one unit adds to the bill. `parts` are the places of the lines for parts of it."""

    counts: str
    direction: Direction | None
    price: Decimal
    tiers: tuple[tuple[Number, Decimal], ...]
    parts: tuple[int, ...]


class Tariff:
    """Prices compiled to lines, parts before wholes. `prices` are what it was compiled from."""

    __slots__ = ("_least", "_lines", "prices")

    def __init__(self, prices: Prices, least: Counts | None = None) -> None:
        """`least` are the counts that are billed at least (Groq: ten seconds of audio)."""
        self.prices = prices
        self._least = least
        # A unit that this version doesn't know can't be counted, so its price is no use.
        names = sorted(
            (name for name in prices if name in UNITS), key=lambda name: -len(UNITS[name].within)
        )
        self._lines = tuple(_line(name, prices[name], names) for name in names)

    def cost(self, counts: Counts, source: str) -> Cost | None:
        """The cost of these counts; `None` if nothing was counted that this model is sold by."""
        if not self.prices:
            # A free model; the table writes no price for it.
            return Cost(0.0, 0.0, 0.0, source)
        if self._least:
            counts = self._raised(counts)
        size = counts.get("input_tokens", 0)
        sums: dict[str | None, Decimal] = {"input": _ZERO, "output": _ZERO, None: _ZERO}
        billed: list[int | Decimal] = []
        counted = False
        for line in self._lines:
            count = counts.get(line.counts)
            if count is None:
                billed.append(0)
                continue
            counted = True
            for part in line.parts:
                count -= billed[part]
            # Parts that overlap can add up to more than their whole; nothing is left of it then.
            billed.append(max(count, 0))
            if count > 0:
                amount = _EXACT.multiply(_price_at(line, size) if line.tiers else line.price, count)
                sums[line.direction] = _EXACT.add(sums[line.direction], amount)
        if not counted:
            return None
        read, written = sums["input"], sums["output"]
        total = _EXACT.add(_EXACT.add(read, written), sums[None])
        return Cost(float(total), float(read), float(written), source)

    def _raised(self, counts: Counts) -> Counts:
        least = self._least or {}
        return {
            name: max(count, least.get(name, 0)) if count else count
            for name, count in counts.items()
        }


def _line(name: str, price: Price, names: Sequence[str]) -> _Line:
    unit = UNITS[name]
    base, *steps = price if isinstance(price, Sequence) else (price,)
    return _Line(
        counts=unit.counts,
        direction=unit.direction,
        price=_each(base, unit),
        # The highest tier first, because the first that is reached decides.
        tiers=tuple((start, _each(above, unit)) for start, above in sorted(steps, reverse=True)),
        parts=tuple(place for place, other in enumerate(names) if name in UNITS[other].within),
    )


def _each(price: Number, unit: Unit) -> Decimal:
    return _EXACT.divide(Decimal(price), Decimal(unit.per))


def _price_at(line: _Line, size: int | Decimal) -> Decimal:
    for start, price in line.tiers:
        if size > start:
            return price
    return line.price
