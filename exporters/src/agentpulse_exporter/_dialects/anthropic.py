"""The anthropic client's own spans, which use the current words, but for two things."""

from __future__ import annotations

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._dialects.dialect import Dialect, Told
from agentpulse_exporter._dialects.genai import WORDS


def _finish_reason(told: Told) -> None:
    reason = told.get(semconv.ANTHROPIC_STOP_REASON)
    if reason is not None:
        told.setdefault(semconv.RESPONSE_FINISH_REASONS, (reason,))


def _compaction(told: Told) -> None:
    """Compaction is billed on top of the call's own tokens."""
    _add(told, semconv.USAGE_INPUT_TOKENS, semconv.ANTHROPIC_COMPACTION_INPUT_TOKENS)
    _add(told, semconv.USAGE_OUTPUT_TOKENS, semconv.ANTHROPIC_COMPACTION_OUTPUT_TOKENS)


def _add(told: Told, total: str, part: str) -> None:
    whole, more = told.get(total), told.get(part)
    if isinstance(whole, int) and isinstance(more, int):
        told[total] = whole + more


DIALECT = Dialect(
    scopes=("com.anthropic.sdk.python",), words=WORDS, quirks=(_finish_reason, _compaction)
)
