"""`calculate_cost`: the cost of a call by its figures, for programs."""

from __future__ import annotations

from functools import partial
from operator import index
from typing import Any

from agentpulse_exporter._pricing.cost import price
from agentpulse_exporter._pricing.overrides import PriceOverrides, own_prices
from agentpulse_exporter._values import shielded


def calculate_cost(
    model: str,
    input_tokens: int,
    output_tokens: int,
    *,
    provider: str | None = None,
    cache_read_tokens: int = 0,
    cache_write_tokens: int = 0,
    cache_write_1h_tokens: int = 0,
    service_tier: str | None = None,
    at: float | None = None,
    overrides: PriceOverrides | None = None,
) -> float | None:
    """The cost of a call in USD; `None` for an unknown model, or without a price table.

    The user's own prices count first: those of the exporter that runs (`prices` of
    `agentpulse.init`), else those of `AGENTPULSE_PRICES`.

    Args:
        model: Any usual spelling of the model's name.
        input_tokens: All input tokens, the cached ones included.
        output_tokens: All output tokens, reasoning included.
        provider: By the GenAI conventions, such as `openai` or `aws.bedrock`; without one the
            model's name decides.
        cache_read_tokens: Input tokens read from a cache.
        cache_write_tokens: Input tokens written to a cache.
        cache_write_1h_tokens: Those of them written for an hour.
        service_tier: The tier that served the call (`flex`, `priority`, `batch`, …).
        at: When, in seconds since 1970, because prices change; now, if `None`.
        overrides: Prices that count instead of the user's own.

    Raises:
        TypeError: An argument is of another type. Nothing else raises.
    """
    for name, given, kind, expected in (
        ("model", model, str, "the name of a model"),
        ("provider", provider, str | None, "a text or None"),
        ("service_tier", service_tier, str | None, "a text or None"),
        ("at", at, int | float | None, "seconds since 1970 or None"),
        ("overrides", overrides, PriceOverrides | None, "PriceOverrides or None"),
    ):
        if not isinstance(given, kind):
            raise _wrong_type(name, given, expected)
    counts = {
        "input_tokens": _tokens("input_tokens", input_tokens),
        "output_tokens": _tokens("output_tokens", output_tokens),
        # If no tokens are known, 0 cached tokens aren't a figure either.
        "cache_read_tokens": _tokens("cache_read_tokens", cache_read_tokens) or None,
        "cache_write_tokens": _tokens("cache_write_tokens", cache_write_tokens) or None,
        "cache_write_1h_tokens": _tokens("cache_write_1h_tokens", cache_write_1h_tokens) or None,
    }
    own = overrides or own_prices()
    made = partial(price, counts, model, provider=provider, at=at, service_tier=service_tier)
    cost = shielded("price a call", partial(made, overrides=own), None)
    return None if cost is None else cost.total


def _tokens(name: str, given: Any) -> Any:
    """A number of tokens. Answers of providers have None where they report none."""
    if given is None or isinstance(given, float):
        return given
    try:
        # Also of the whole numbers that numerical libraries have.
        return index(given)
    except TypeError:
        raise _wrong_type(name, given, "a number of tokens") from None


def _wrong_type(name: str, given: object, expected: str) -> TypeError:
    return TypeError(f"The argument {name} is of type {type(given).__name__}; expected {expected}.")
