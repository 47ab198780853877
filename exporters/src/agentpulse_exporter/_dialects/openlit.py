"""OpenLIT: the conventions' words, with its own defaults for what was never set."""

from __future__ import annotations

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._dialects.dialect import Dialect, Told, inclusive_input, own_cost
from agentpulse_exporter._dialects.genai import QUIRKS, WORDS
from agentpulse_exporter._semconv import count

_WORDS = {
    **WORDS,
    semconv.SESSION_ID: ("gen_ai.session.id", *WORDS[semconv.SESSION_ID]),
    semconv.USER_ID: ("gen_ai.user.id", "gen_ai.request.user", *WORDS[semconv.USER_ID]),
}


def _exclusive_input(told: Told) -> None:
    """Its Anthropic input is Anthropic's own figure, which leaves the cached tokens out."""
    read = count(told, semconv.USAGE_CACHE_READ_INPUT_TOKENS) or 0
    written = count(told, semconv.USAGE_CACHE_WRITE_INPUT_TOKENS) or 0
    total = count(told, semconv.USAGE_INPUT_TOKENS)
    if told.get(semconv.PROVIDER_NAME) == "anthropic" and total is not None:
        told[semconv.USAGE_INPUT_TOKENS] = total + read + written


def _first_chunk(told: Told) -> None:
    first = told.get("gen_ai.server.time_to_first_token")
    if told.get(semconv.REQUEST_STREAM) is True and first:
        told.setdefault(semconv.RESPONSE_TIME_TO_FIRST_CHUNK, first)


DIALECT = Dialect(
    scopes=("openlit.",),
    marks=("openlit.",),
    words=_WORDS,
    quirks=(
        *(quirk for quirk in QUIRKS if quirk is not inclusive_input),
        _exclusive_input,
        inclusive_input,
        _first_chunk,
        own_cost("gen_ai.usage.cost"),
    ),
)
