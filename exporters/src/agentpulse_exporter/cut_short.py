"""Spans of ours of which the SDK's limits left too little to say what they tell of.

Of too many attributes the SDK keeps the last, and of too long a value the start. By its defaults
that leaves all of a call; a program, or its environment, may want less.
"""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.sdk.trace import ReadableSpan

from agentpulse_exporter import names
from agentpulse_exporter.cost import MODEL_OPERATIONS
from agentpulse_exporter.dialects import is_ours
from agentpulse_exporter.mapping import SPELT_OUT
from agentpulse_exporter.sessions import SESSION_KINDS

_WORDS = (*MODEL_OPERATIONS, *SPELT_OUT, *SESSION_KINDS)
"""Operations and span kinds by which a span becomes more than the end of some span."""


def is_cut_short(span: ReadableSpan) -> bool:
    """Whether it may be a call, a session or an event, and can't be told as one."""
    if not is_ours(span):
        return False
    attributes: Mapping[str, object] = span.attributes or {}
    told = attributes.get(names.SPAN_KIND, attributes.get(names.OPERATION_NAME))
    if told is None:
        return span.dropped_attributes > 0
    if told in SESSION_KINDS:
        return names.SESSION_ID not in attributes
    word = str(told)
    return word not in _WORDS and any(each.startswith(word) for each in _WORDS)
