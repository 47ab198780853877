"""Spans that are told of when they start, so that a receiver sees what runs now."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.sdk.trace import ReadableSpan

from agentpulse_exporter import names

_SPAN_KINDS = frozenset({"session", "cron", "agent"})


def is_told_at_start(span: ReadableSpan) -> bool:
    """Whether it is a sampled session, cron run or agent, ours or by the conventions."""
    attributes: Mapping[str, object] = span.attributes or {}
    if not (
        attributes.get(names.SPAN_KIND) in _SPAN_KINDS
        or attributes.get(names.OPERATION_NAME) == "invoke_agent"
    ):
        return False
    return span.context is not None and span.context.trace_flags.sampled


def as_started(span: ReadableSpan) -> ReadableSpan:
    """The span as it is now, without an end."""
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=dict(span.attributes or {}),
        kind=span.kind,
        start_time=span.start_time,
        instrumentation_scope=span.instrumentation_scope,
    )
