"""The anthropic client's own spans, which use the current words, but for two things."""

from __future__ import annotations

from agentpulse_exporter import names
from agentpulse_exporter.dialects.dialect import Dialect, Told
from agentpulse_exporter.dialects.genai import WORDS


def _finish_reason(told: Told) -> None:
    reason = told.get(names.ANTHROPIC_STOP_REASON)
    if reason is not None:
        told.setdefault(names.RESPONSE_FINISH_REASONS, (reason,))


def _compaction(told: Told) -> None:
    """Compaction is billed on top of the call's own tokens."""
    _add(told, names.USAGE_INPUT_TOKENS, names.ANTHROPIC_COMPACTION_INPUT_TOKENS)
    _add(told, names.USAGE_OUTPUT_TOKENS, names.ANTHROPIC_COMPACTION_OUTPUT_TOKENS)


def _add(told: Told, total: str, part: str) -> None:
    whole, more = told.get(total), told.get(part)
    if isinstance(whole, int) and isinstance(more, int):
        told[total] = whole + more


DIALECT = Dialect(
    scopes=("com.anthropic.sdk.python",), words=WORDS, quirks=(_finish_reason, _compaction)
)
