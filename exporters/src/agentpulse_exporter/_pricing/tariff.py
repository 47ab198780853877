"""The tariffs of a model: its prices at one moment, compiled to price a call's counts in one pass.

A unit is a count that calls are billed by. A part that has a price of its own is taken out of its
whole: cached input tokens are billed at the price of `cache_read`, and as plain `input` only where
a model has no such price.

Sums are exact: prices and sums are decimals of 40 digits, in a context of our own, because a
program may have set the decimal module to round or to raise. Floats appear in the result alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Context as DecimalContext
from decimal import Decimal
from math import isfinite
from typing import Any, Literal, TypeAlias, TypedDict

from agentpulse_exporter import _semconv as semconv

Counts = dict[str, int | Decimal]
"""By the `counts` of units; a count that wasn't reported is absent."""
Direction = Literal["input", "output"]


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


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of billing. Its price is in USD per `per` of the count named `counts`."""

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
"""By the names that the price table and the user's own prices use."""

Number = int | Decimal
Price = Number | Sequence[Any]
"""A number, or `[number, [tokens, number], …]`: another one above so many input tokens."""
Prices = Mapping[str, Price]
"""By unit."""

_EXACT = DecimalContext(prec=40, traps=[])
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class _Line:
    """The share of one unit in the bill. `parts` are the indexes of the lines for parts of it."""

    counts: str
    direction: Direction | None
    price: Decimal
    tiers: tuple[tuple[Number, Decimal], ...]
    parts: tuple[int, ...]


class Tariff:
    """Prices compiled to lines, parts before wholes. `prices` are their source."""

    __slots__ = ("_least", "_lines", "prices")

    def __init__(self, prices: Prices, least: Counts | None = None) -> None:
        """`least` are the counts that are billed at least (Groq: ten seconds of audio)."""
        self.prices: Prices = prices
        self._least = least or {}
        # A unit that this version doesn't know can't be counted, so its price is no use.
        names = sorted(
            (name for name in prices if name in UNITS), key=lambda name: -len(UNITS[name].within)
        )
        self._lines = tuple(_line(name, prices[name], names) for name in names)

    def cost(self, counts: Counts, source: str, *, estimated: bool = False) -> Cost | None:
        """The cost of these counts; `None` if nothing was counted that this model is sold by."""
        if not self.prices:
            # A free model; the table writes no price for it.
            return Cost(0.0, 0.0, 0.0, source, estimated)
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
            if count and line.counts in self._least:
                count = max(count, self._least[line.counts])
            for part in line.parts:
                count -= billed[part]
            # Parts that overlap can add up to more than their whole; the rest is nothing then.
            billed.append(max(count, 0))
            if count > 0:
                amount = _EXACT.multiply(_price_at(line, size) if line.tiers else line.price, count)
                sums[line.direction] = _EXACT.add(sums[line.direction], amount)
        read, written = sums["input"], sums["output"]
        total = _EXACT.add(_EXACT.add(read, written), sums[None])
        # Of absurd counts or prices it may be more than a number can hold.
        if not counted or not isfinite(float(total)):
            return None
        return Cost(float(total), float(read), float(written), source, estimated)


def _line(name: str, price: Price, names: Sequence[str]) -> _Line:
    unit = UNITS[name]
    base, *steps = price if isinstance(price, Sequence) else (price,)
    return _Line(
        counts=unit.counts,
        direction=unit.direction,
        price=_each(base, unit),
        # The highest tier first, because the first that is reached decides.
        tiers=tuple((start, _each(above, unit)) for start, above in sorted(steps, reverse=True)),
        parts=tuple(index for index, other in enumerate(names) if name in UNITS[other].within),
    )


def _each(price: Number, unit: Unit) -> Decimal:
    return _EXACT.divide(Decimal(price), Decimal(unit.per))


def _price_at(line: _Line, size: int | Decimal) -> Decimal:
    return next((price for start, price in line.tiers if size > start), line.price)


Clause: TypeAlias = "str | Sequence[Clause] | Mapping[str, str | Sequence[Clause]]"
"""How the table recognises a name: a text (exactly this name), a list (any of its clauses), or an
object: `{"starts_with": …}`, `{"ends_with": …}`, `{"contains": …}`, `{"regex": …}`, `{"and": …}`.
"""
Context = Mapping[str, str]
"""How a call was served: `service_tier`, `processing` (`batch`), `speed`."""
Condition = Callable[[float], bool]
"""Whether a price holds at a time in seconds since 1970."""
_DAY = 86_400


class _Required(TypedDict):
    prices: Prices | Sequence[tuple[str | None, Prices]]


class Record(_Required, total=False):
    """A model as the table writes it. Dated prices are a list; the last that holds is valid."""

    match: Clause
    variants: Sequence[tuple[Context, str | None, Prices]]
    least: Counts


class Model:
    """The prices of one model through time, and in each way it is served.

    Attributes:
        provider: The id of the provider that sells it.
        id: Its name in the table.
        record: Its entry in the table.
    """

    def __init__(self, provider: str, name: str, record: Record) -> None:
        self.provider = provider
        self.id = name
        self.record = record
        self._periods = [(_condition(when), prices) for when, prices in periods_of(record)]
        self._variants = [
            (served.items(), _condition(when), prices)
            for served, when, prices in record.get("variants", ())
        ]
        self._tariffs: dict[tuple[int, ...], Tariff] = {}

    def tariff(self, at: float, context: Context) -> Tariff:
        """The prices at a time (seconds since 1970) for a call served in this way."""
        asked = context.items()
        # The last period that holds counts; the first one where none does.
        holding = [number for number, (holds, _) in enumerate(self._periods) if holds(at)]
        chosen = (
            holding[-1] if holding else 0,
            *(
                number
                for number, (served, holds, _) in enumerate(self._variants)
                if served <= asked and holds(at)
            ),
        )
        tariff = self._tariffs.get(chosen)
        if tariff is None:
            tariff = self._tariffs[chosen] = self._compiled(*chosen)
        return tariff

    def _compiled(self, period: int, *variants: int) -> Tariff:
        prices = dict(self._periods[period][1])
        # The first variant that prices a unit wins, so the last is laid on first.
        for number in reversed(variants):
            prices.update(self._variants[number][2])
        return Tariff(prices, self.record.get("least"))


def periods_of(record: Record) -> Sequence[tuple[str | None, Prices]]:
    """The dated prices of a model; a single one has no condition."""
    prices = record["prices"]
    return [(None, prices)] if isinstance(prices, Mapping) else prices


def _condition(text: str | None) -> Condition:
    """From a day on (`2026-03-13`), or daily between two times in UTC (`00:30-16:30`)."""
    if text is None:
        return lambda _at: True
    if ":" not in text:
        start = datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
        return lambda at: at >= start
    first, last = (_seconds(time.fromisoformat(part)) for part in text.split("-"))
    if last < first:
        return lambda at: at % _DAY >= first or at % _DAY < last
    return lambda at: first <= at % _DAY < last


def _seconds(moment: time) -> int:
    return moment.hour * 3_600 + moment.minute * 60 + moment.second
