"""How instrumentations that use other words than the current GenAI conventions are read.

A dialect says which spans are its own and how their attributes read in the current words. The rest
of the exporter knows these words only, and the spans stay as they are. A span that no dialect
claims is read as it is.
"""

from __future__ import annotations

from functools import partial

from opentelemetry.sdk.trace import ReadableSpan

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._dialects import (
    anthropic,
    genai,
    langfuse,
    logfire,
    mlflow,
    openinference,
    openlit,
    pydantic_ai,
    vercel,
)
from agentpulse_exporter._dialects.dialect import Attributes, Dialect
from agentpulse_exporter._shield import shielded
from agentpulse_exporter._wire.privacy import without_free_text

DIALECTS = (
    anthropic.DIALECT,
    openinference.DIALECT,
    openlit.DIALECT,
    langfuse.DIALECT,
    pydantic_ai.DIALECT,
    logfire.DIALECT,
    mlflow.DIALECT,
    vercel.DIALECT,
    genai.DIALECT,
)
"""The first that claims a span reads it. The last one is what most others are made of."""

_SCOPES = tuple(scope for each in DIALECTS for scope in each.scopes)
_MARKS = tuple(mark for each in DIALECTS for mark in each.marks)
_OURS = "agentpulse"

__all__ = ["DIALECTS", "concerns_agents", "current_attributes", "is_ours", "shown_attributes"]


def current_attributes(span: ReadableSpan, *, with_content: bool = False) -> Attributes:
    """The span's attributes in the words of the current conventions. The span stays as it is.

    What was said stays in the words that it is in, but with content. Where content can't be read,
    the rest still is; where that can't be, the attributes are what they are. Never raises.
    """
    attributes: Attributes = span.attributes or {}
    dialect = _dialect_of(span, attributes)
    if dialect is None:
        return attributes
    if with_content:
        read = partial(dialect.current, attributes, with_content=True)
        said = shielded("read the content of a span of others", read, None)
        if said is not None:
            return said
    return shielded("read a span of others", partial(dialect.current, attributes), attributes)


def shown_attributes(span: ReadableSpan, attributes: Attributes) -> Attributes:
    """Those of a span's current attributes that are free of content, as far as names can tell.

    Empty where they can't be told apart.
    """
    original: Attributes = span.attributes or {}
    dialect = _dialect_of(span, original)
    if dialect is None or (dialect is genai.DIALECT and not genai.is_of_a_package(span)):
        # Somebody's own span: what is on it is there by their own hand.
        return attributes
    return shielded("tell content apart", lambda: without_free_text(attributes), {})


def concerns_agents(span: ReadableSpan) -> bool:
    """Whether the span has a GenAI operation or a span kind of ours, in whatever words.

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
    return dialect is not None and dialect is not logfire.DIALECT


def is_ours(span: ReadableSpan) -> bool:
    """Whether AgentPulse, or one of its instrumentors, made the span."""
    return _scope_of(span).startswith(_OURS)


def _dialect_of(span: ReadableSpan, attributes: Attributes) -> Dialect | None:
    # The scope is known, too, where the SDK's limits took every attribute.
    if is_ours(span) or not (attributes or span.dropped_attributes):
        return None
    scope = _scope_of(span)
    # Most spans are of none, and one look at their names says so.
    if not scope.startswith(_SCOPES) and not any(each.startswith(_MARKS) for each in attributes):
        return None
    return next((each for each in DIALECTS if each.claims(scope, attributes)), None)


def _scope_of(span: ReadableSpan) -> str:
    scope = span.instrumentation_scope
    return "" if scope is None else scope.name
