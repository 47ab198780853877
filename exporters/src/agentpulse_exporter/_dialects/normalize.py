"""Anybody's span by the current GenAI conventions: which dialect it is of, and its attributes.

A dialect recognises its own spans and translates their attributes to the current names. The rest
of the exporter knows these names only, and the spans stay as they are. A span of no dialect is
read as it is.
"""

from __future__ import annotations

from functools import partial

from opentelemetry.sdk.trace import ReadableSpan

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._dialects.dialect import Dialect
from agentpulse_exporter._dialects.genai import (
    ANTHROPIC,
    GENAI,
    LOGFIRE,
    OPENLIT,
    PYDANTIC_AI,
    is_of_a_package,
)
from agentpulse_exporter._dialects.openinference import OPENINFERENCE
from agentpulse_exporter._dialects.platforms import LANGFUSE, MLFLOW
from agentpulse_exporter._dialects.vercel import VERCEL
from agentpulse_exporter._semconv import Attributes
from agentpulse_exporter._shield import shielded
from agentpulse_exporter._wire.privacy import without_free_text

DIALECTS = (
    *(ANTHROPIC, OPENINFERENCE, OPENLIT, LANGFUSE, PYDANTIC_AI, LOGFIRE, MLFLOW, VERCEL),
    GENAI,
)
"""The first that a span matches reads it. The last one is common to most others."""

_SCOPES = tuple(scope for each in DIALECTS for scope in each.scopes)
_MARKS = tuple(mark for each in DIALECTS for mark in each.marks)
_OURS = "agentpulse"


def current_attributes(span: ReadableSpan, *, with_content: bool = False) -> Attributes:
    """The span's attributes by their current names. The span stays as it is. Never raises.

    Content keeps its names unless it is asked for. Where content can't be read, the rest still is;
    where that can't be read either, the attributes stay as they are.
    """
    attributes: Attributes = span.attributes or {}
    dialect = _dialect_of(span, attributes)
    if dialect is None:
        return attributes
    if with_content:
        read = partial(dialect.current, attributes, with_content=True)
        current = shielded("read the content of a foreign span", read, None)
        if current is not None:
            return current
    return shielded("read a foreign span", partial(dialect.current, attributes), attributes)


def shown_attributes(span: ReadableSpan, attributes: Attributes) -> Attributes:
    """Those of a span's current attributes that are free of content, judged by their names.

    Empty where that can't be decided.
    """
    dialect = _dialect_of(span, span.attributes or {})
    if dialect is None or (dialect is GENAI and not is_of_a_package(span)):
        # A program's own span: its author put these attributes on it.
        return attributes
    return shielded("separate content", lambda: without_free_text(attributes), {})


def concerns_agents(span: ReadableSpan) -> bool:
    """Whether the span has a GenAI operation or a span kind of ours, in any dialect.

    Runs where the span ends, so nothing is read that costs time.
    """
    attributes: Attributes = span.attributes or {}
    if semconv.OPERATION_NAME in attributes or semconv.SPAN_KIND in attributes:
        return True
    if is_ours(span):
        # Each of these has one of the two, unless the SDK's limits took it.
        return span.dropped_attributes > 0
    dialect = _dialect_of(span, attributes)
    # Logfire's marks are on spans of everything else too.
    return dialect is not None and dialect is not LOGFIRE


def is_ours(span: ReadableSpan) -> bool:
    """Whether AgentPulse, or one of its instrumentors, made the span."""
    return _scope_of(span).startswith(_OURS)


def _dialect_of(span: ReadableSpan, attributes: Attributes) -> Dialect | None:
    # The scope is known, too, where the SDK's limits took every attribute.
    if is_ours(span) or not (attributes or span.dropped_attributes):
        return None
    scope = _scope_of(span)
    # Most spans are of none, and their names decide that.
    if not scope.startswith(_SCOPES) and not any(each.startswith(_MARKS) for each in attributes):
        return None
    return next((each for each in DIALECTS if each.matches(scope, attributes)), None)


def _scope_of(span: ReadableSpan) -> str:
    scope = span.instrumentation_scope
    return "" if scope is None else scope.name
