"""What a call used, and what it cost.

Reported usage is taken as it is where it makes sense. Where it doesn't (a part larger than its
whole, a negative count, a missing total), it is read in the way that loses no reported tokens, and
never raises.
"""

from dataclasses import dataclass, fields
from decimal import Decimal
from math import isfinite
from operator import attrgetter

Counts = dict[str, int | Decimal]
"""By field of `Usage`; a field that wasn't reported is absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What is known of one call. A count that wasn't reported is `None`.

    Attributes:
        provider: By the GenAI conventions (`openai`, `aws.bedrock`, …); without one the model's
            name decides.
        model: The model that answered.
        request_model: The model asked for, tried where `model` is unknown.
        at: When the call was made, in seconds since 1970; now, if `None`. It chooses among dated
            prices.
        service_tier: The tier that served the call (`default`, `flex`, `priority`, `batch`, …).
        speed: The speed mode that served it (Anthropic's `fast`).
        input_tokens: All input tokens, the cached ones included.
        output_tokens: All output tokens, reasoning included.
        cache_read_tokens: Input tokens read from a cache.
        cache_write_tokens: Input tokens written to a cache, for however long.
        cache_write_1h_tokens: Those of them written for an hour.
        input_audio_tokens: Input tokens of audio, the cached ones included.
        output_audio_tokens: Output tokens of audio.
        cache_audio_read_tokens: Input tokens of audio read from a cache.
        input_image_tokens: Input tokens of images, the cached ones included.
        output_image_tokens: Output tokens of images.
        cache_image_read_tokens: Input tokens of images read from a cache.
        output_reasoning_tokens: Output tokens of reasoning.
        input_characters: Characters of text, for speech models sold by them.
        audio_seconds: Seconds of audio, for transcription models sold by the hour.
        web_searches: Searches of the web that the provider ran.
        storage_searches: Searches of stored files that the provider ran.
    """

    provider: str | None = None
    model: str | None = None
    request_model: str | None = None
    at: float | None = None
    service_tier: str | None = None
    speed: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    input_audio_tokens: int | None = None
    output_audio_tokens: int | None = None
    cache_audio_read_tokens: int | None = None
    input_image_tokens: int | None = None
    output_image_tokens: int | None = None
    cache_image_read_tokens: int | None = None
    output_reasoning_tokens: int | None = None
    input_characters: int | None = None
    audio_seconds: float | None = None
    web_searches: int | None = None
    storage_searches: int | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call cost, in USD.

    `total` may be more than `input` and `output` together: requests and searches are neither.
    `source` is `override` (the user's prices) or `genai-prices <version>`.
    """

    total: float
    input: float
    output: float
    source: str


_TEXTS = ("provider", "model", "request_model", "at", "service_tier", "speed")
_COUNTED = tuple(field.name for field in fields(Usage) if field.name not in _TEXTS)
_values_of = attrgetter(*_COUNTED)
_WHOLES = ("input_tokens", "output_tokens")
"""The first two of those counted; nothing needs to be reconciled where there is nothing else."""
_OUTPUT_PARTS = ("output_audio_tokens", "output_image_tokens", "output_reasoning_tokens")


def counts_of(usage: Usage) -> Counts:
    """The counts reported in `usage`, made consistent with each other; and one request."""
    counts: Counts = {"requests": 1}
    values = _values_of(usage)
    for name, value in zip(_COUNTED, values, strict=True):
        if value is None:
            continue
        if isinstance(value, int):
            counts[name] = max(value, 0)
        elif isinstance(value, float) and isfinite(value):
            # Tokens come whole. Seconds are taken for the number that is written, 0.1 for a tenth.
            seconds = name == "audio_seconds"
            counts[name] = Decimal(repr(max(value, 0.0))) if seconds else max(int(value), 0)
    if any(values[len(_WHOLES) :]):
        _reconcile(counts)
    return counts


def _reconcile(counts: Counts) -> None:
    _fit(counts, "cache_write_tokens", ("cache_write_1h_tokens",))
    _fit(counts, "cache_read_tokens", ("cache_audio_read_tokens", "cache_image_read_tokens"))
    _fit(counts, "input_audio_tokens", ("cache_audio_read_tokens",))
    _fit(counts, "input_image_tokens", ("cache_image_read_tokens",))
    cached = counts.get("cache_read_tokens", 0) + counts.get("cache_write_tokens", 0)
    reported = counts.get("input_tokens")
    if cached and (reported is None or cached > reported):
        # Some report the input without its cached part, which is Anthropic's own way to count.
        counts["input_tokens"] = cached + (reported or 0)
    _fit(counts, "input_tokens", ("input_audio_tokens", "input_image_tokens"))
    _fit(counts, "output_tokens", _OUTPUT_PARTS)


def _fit(counts: Counts, whole: str, parts: tuple[str, ...]) -> None:
    """Cuts parts that add up to more than their whole; one that wasn't reported is their sum."""
    left = counts.get(whole)
    for part in parts:
        count = counts.get(part)
        if not count:
            continue
        if left is None:
            left = counts[whole] = sum(counts.get(each, 0) for each in parts)
        if count > left:
            count = counts[part] = left
        left -= count
