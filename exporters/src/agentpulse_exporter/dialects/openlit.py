"""OpenLIT: the conventions' words, with its own defaults for what was never set."""

from __future__ import annotations

from agentpulse_exporter import names
from agentpulse_exporter.dialects.dialect import Dialect, Told, inclusive_input, own_cost
from agentpulse_exporter.dialects.genai import QUIRKS, WORDS
from agentpulse_exporter.reading import count

_WORDS = {
    **WORDS,
    names.SESSION_ID: ("gen_ai.session.id", *WORDS[names.SESSION_ID]),
    names.USER_ID: ("gen_ai.user.id", "gen_ai.request.user", *WORDS[names.USER_ID]),
}


def _exclusive_input(told: Told) -> None:
    """Its Anthropic input is Anthropic's own figure, which leaves the cached tokens out."""
    read = count(told, names.USAGE_CACHE_READ_INPUT_TOKENS) or 0
    written = count(told, names.USAGE_CACHE_WRITE_INPUT_TOKENS) or 0
    total = count(told, names.USAGE_INPUT_TOKENS)
    if told.get(names.PROVIDER_NAME) == "anthropic" and total is not None:
        told[names.USAGE_INPUT_TOKENS] = total + read + written


def _first_chunk(told: Told) -> None:
    first = told.get("gen_ai.server.time_to_first_token")
    if told.get(names.REQUEST_STREAM) is True and first:
        told.setdefault(names.RESPONSE_TIME_TO_FIRST_CHUNK, first)


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
