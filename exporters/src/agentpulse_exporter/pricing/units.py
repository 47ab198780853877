"""The units that calls are billed in: the count each multiplies, and which are parts of which.

A part that has a price of its own is taken out of the whole it belongs to: cached input tokens are
billed at the price of `cache_read`, and as plain `input` only where a model has no such price.
"""

from dataclasses import dataclass
from typing import Literal

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
