"""The place of a span among those that are told of, where the spans around it aren't.

Web and database spans of the same provider don't travel, so what happened inside one is told of as
inside the nearest span around it that does.
"""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._wire.span_copy import SpanCopy

MOST_PASSED_OVER = 16_384
"""Spans that are known not to travel; of more, the half that began first is forgotten."""
_MOST_STEPS = 256
_Key = tuple[int, int]


class Ancestry:
    """Which spans are passed over, and what each of them is inside. Any thread may ask."""

    def __init__(self) -> None:
        self._newer: dict[_Key, SpanContext | None] = {}
        self._older: dict[_Key, SpanContext | None] = {}
        """The generation before, which is forgotten as a whole: to find the oldest takes time."""

    def __len__(self) -> int:
        return len(self._newer) + len(self._older)

    def pass_over(self, span: ReadableSpan) -> None:
        """Notes a span that doesn't travel, as far as it is known by now."""
        context = span.context
        if context is None:
            return
        self._newer[context.trace_id, context.span_id] = span.parent
        if 2 * len(self._newer) >= MOST_PASSED_OVER:
            self._older, self._newer = self._newer, {}

    def travels(self, span: ReadableSpan) -> None:
        """Notes that a span travels after all."""
        context = span.context
        if context is not None and (self._newer or self._older):
            key = context.trace_id, context.span_id
            self._newer.pop(key, None)
            self._older.pop(key, None)

    def placed(self, span: ReadableSpan) -> ReadableSpan:
        """The span, its parent being the nearest span around it that travels."""
        parent = span.parent
        for _ in range(_MOST_STEPS):
            if parent is None:
                break
            key = parent.trace_id, parent.span_id
            known = self._newer if key in self._newer else self._older
            if key not in known:
                break
            parent = known.get(key)
        return span if parent is span.parent else SpanCopy.inside(span, parent)

    def clear(self) -> None:
        """Forgets all of them, as a child process must."""
        self._newer, self._older = {}, {}


# Spans that are told of when they start, so that a receiver sees what runs now.

_SPAN_KINDS = frozenset({"session", "cron", "agent"})


def is_told_at_start(span: ReadableSpan) -> bool:
    """Whether it is a sampled session, cron run or agent, ours or by the conventions."""
    attributes: Mapping[str, object] = span.attributes or {}
    if not (
        attributes.get(semconv.SPAN_KIND) in _SPAN_KINDS
        or attributes.get(semconv.OPERATION_NAME) == "invoke_agent"
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
