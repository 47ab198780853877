"""Logfire: the conventions' words; exact usage as JSON, that of streams on a later record."""

from __future__ import annotations

import json
from typing import Any

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._dialects.dialect import Dialect, Told, is_no_call, json_object, own_cost
from agentpulse_exporter._dialects.genai import QUIRKS, WORDS
from agentpulse_exporter._semconv import count, text


def _reasons(told: Told) -> None:
    # Logfire writes lists as JSON.
    reasons = text(told, semconv.RESPONSE_FINISH_REASONS)
    if reasons is not None and reasons.startswith("["):
        try:
            listed: Any = json.loads(reasons)
        except ValueError:
            return
        told[semconv.RESPONSE_FINISH_REASONS] = listed


def _exact_usage(told: Told) -> None:
    raw = json_object(told.get("gen_ai.usage.raw"))
    details = json_object(raw.get("prompt_tokens_details") or raw.get("input_tokens_details"))
    produced = raw.get("completion_tokens_details") or raw.get("output_tokens_details")
    lifetimes = json_object(raw.get("cache_creation"))
    found = {
        semconv.USAGE_CACHE_READ_INPUT_TOKENS: count(details, "cached_tokens")
        or count(raw, "cache_read_input_tokens"),
        semconv.USAGE_CACHE_WRITE_INPUT_TOKENS: count(raw, "cache_creation_input_tokens"),
        semconv.ANTHROPIC_CACHE_WRITE_5M_TOKENS: count(lifetimes, "ephemeral_5m_input_tokens"),
        semconv.ANTHROPIC_CACHE_WRITE_1H_TOKENS: count(lifetimes, "ephemeral_1h_input_tokens"),
        semconv.USAGE_REASONING_OUTPUT_TOKENS: count(json_object(produced), "reasoning_tokens"),
    }
    for name, value in found.items():
        if value:
            told.setdefault(name, value)


def _which_is_the_call(told: Told) -> None:
    """A span that is still open is sent too, and the span of a stream ends before its answer."""
    kind = text(told, "logfire.span_type")
    failed = told.get("logfire.level_num", 0) == _ERROR
    unanswered = semconv.USAGE_INPUT_TOKENS not in told and semconv.RESPONSE_ID not in told
    if kind == "log" and (text(told, "logfire.msg_template") or "").startswith("streaming resp"):
        told.setdefault(semconv.REQUEST_STREAM, True)
    if kind == "pending_span" or (kind == "span" and unanswered and not failed):
        is_no_call(told)


_ERROR = 17
DIALECT = Dialect(
    scopes=("logfire",),
    marks=("logfire.",),
    words=WORDS,
    quirks=(_reasons, _exact_usage, *QUIRKS, _which_is_the_call, own_cost("operation.cost")),
)
