"""The units that calls are billed by, and the prices of a model: by day, and as it was served.

A unit is a count that calls are billed by. A part that has a price of its own is taken out of its
whole: cached input tokens are billed at the price of `cache_read`, and as plain `input` only where
a model has no such price.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any, Literal, TypeAlias, TypedDict

Number = int | Decimal
Counts = dict[str, Number]
"""By the `counts` of units; a count that wasn't reported is absent."""
Direction = Literal["input", "output"]


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

Price = Number | Sequence[Any]
"""A number, or `[number, [tokens, number], …]`: another one above so many input tokens."""
Prices = Mapping[str, Price]
"""By unit."""

Clause: TypeAlias = "str | Sequence[Clause] | Mapping[str, str | Sequence[Clause]]"
"""How the table recognises a name: a text (exactly this name), a list (any of its clauses), or an
object: `{"starts_with": …}`, `{"ends_with": …}`, `{"contains": …}`, `{"regex": …}`, `{"and": …}`.
"""
Context = Mapping[str, str]
"""How a call was served: `service_tier`, `processing` (`batch`), `speed`."""
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
        self._prices: dict[tuple[int, ...], Prices] = {}

    def prices(self, at: float, context: Context) -> Prices:
        """The prices at a time (seconds since 1970) for a call served in this way."""
        periods, variants = periods_of(self.record), self.record.get("variants", ())
        asked = context.items()
        holding = [number for number, (when, _) in enumerate(periods) if _holds(when, at)]
        served = [
            number
            for number, (way, when, _) in enumerate(variants)
            if way.items() <= asked and _holds(when, at)
        ]
        # The last period that holds counts; the first one where none does.
        chosen = holding[-1] if holding else 0, *served
        if chosen not in self._prices:
            prices = dict(periods[chosen[0]][1])
            # The first variant that prices a unit wins, so the last is laid on first.
            for number in reversed(served):
                prices |= variants[number][2]
            self._prices[chosen] = prices
        return self._prices[chosen]


def periods_of(record: Record) -> Sequence[tuple[str | None, Prices]]:
    """The dated prices of a model; a single one has no condition."""
    prices = record["prices"]
    return [(None, prices)] if isinstance(prices, Mapping) else prices


def _holds(when: str | None, at: float) -> bool:
    """From a day on (`2026-03-13`), or daily between two times in UTC (`00:30-16:30`)."""
    if when is None:
        return True
    if ":" not in when:
        return at >= datetime.fromisoformat(when).replace(tzinfo=UTC).timestamp()
    first, last = (_seconds(time.fromisoformat(part)) for part in when.split("-"))
    if last < first:
        return at % _DAY >= first or at % _DAY < last
    return first <= at % _DAY < last


def _seconds(moment: time) -> int:
    return moment.hour * 3_600 + moment.minute * 60 + moment.second
