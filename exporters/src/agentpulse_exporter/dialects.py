"""How instrumentations that use other words than the current GenAI conventions are read.

A dialect says which spans are its own, by their instrumentation scope, and how their attributes
read in the current words. The rest of the exporter knows these words only. A span that no dialect
claims is read as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from opentelemetry.sdk.trace import ReadableSpan

from agentpulse_exporter import names

Attributes = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Dialect:
    """The spans of one instrumentation.

    Attributes:
        scope: How the names of its instrumentation scopes start.
        current: Its attributes in the words of the current conventions.
    """

    scope: str
    current: Callable[[Attributes], Attributes]


def _from_anthropic(attributes: Attributes) -> Attributes:
    """The anthropic client's own spans use the current words, but for two things."""
    told = dict(attributes)
    reason = attributes.get(names.ANTHROPIC_STOP_REASON)
    if reason is not None:
        told.setdefault(names.RESPONSE_FINISH_REASONS, (reason,))
    _add(told, names.USAGE_INPUT_TOKENS, names.ANTHROPIC_COMPACTION_INPUT_TOKENS)
    _add(told, names.USAGE_OUTPUT_TOKENS, names.ANTHROPIC_COMPACTION_OUTPUT_TOKENS)
    return told


def _add(attributes: dict[str, object], total: str, part: str) -> None:
    whole, more = attributes.get(total), attributes.get(part)
    if isinstance(whole, int) and isinstance(more, int):
        attributes[total] = whole + more


DIALECTS = (Dialect("com.anthropic.sdk.python", _from_anthropic),)


def current_attributes(span: ReadableSpan) -> Attributes:
    """The span's attributes in the words of the current conventions. The span stays as it is."""
    attributes: Attributes = span.attributes or {}
    dialect = _dialect_of(span)
    return attributes if dialect is None else dialect.current(attributes)


def concerns_agents(span: ReadableSpan) -> bool:
    """Whether the span has a GenAI operation or a span kind of ours."""
    attributes: Attributes = span.attributes or {}
    if names.OPERATION_NAME in attributes or names.SPAN_KIND in attributes:
        return True
    dialect = _dialect_of(span)
    return dialect is not None and names.OPERATION_NAME in dialect.current(attributes)


def _dialect_of(span: ReadableSpan) -> Dialect | None:
    scope = span.instrumentation_scope
    if scope is None:
        return None
    return next((dialect for dialect in DIALECTS if scope.name.startswith(dialect.scope)), None)
