"""The units that calls are billed by, and how the price table writes the prices of a model.

A unit is a count that calls are billed by. A part that has a price of its own is taken out of its
whole: cached input tokens are billed at the price of `cache_read`, and as plain `input` only where
a model has no such price.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NotRequired, TypeAlias, TypedDict

Number = int | Decimal
Counts = dict[str, Number]
"""By the `counts` of units; a count that wasn't reported is absent."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of billing. Its price is in USD per `per` of the count named `counts`."""

    counts: str
    per: int
    direction: Literal["input", "output"] | None
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
"""A number, or `[number, [tokens, number], …]`: another number above so many input tokens."""
Prices = Mapping[str, Price]
"""By unit."""

Clause: TypeAlias = "str | Sequence[Clause] | Mapping[str, str | Sequence[Clause]]"
"""How the table recognises a name: a text (exactly this name), a list (any of its clauses), or an
object: `{"starts_with": …}`, `{"ends_with": …}`, `{"contains": …}`, `{"regex": …}`, `{"and": …}`.
"""
Context = Mapping[str, str]
"""How a call was served: `service_tier`, `processing` (`batch`), `speed`."""


class Record(TypedDict):
    """A model as the table writes it. Dated prices are a list; the last that holds is valid."""

    prices: Prices | Sequence[tuple[str | None, Prices]]
    match: NotRequired[Clause]
    variants: NotRequired[Sequence[tuple[Context, str | None, Prices]]]
    least: NotRequired[Counts]
