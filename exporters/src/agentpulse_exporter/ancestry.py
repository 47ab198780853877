"""The place of a span among those that are told of, where the spans around it aren't.

Web and database spans of the same provider don't travel, so what happened inside one is told of as
inside the nearest span around it that does.
"""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

from agentpulse_exporter.span_copy import SpanCopy

MOST_PASSED_OVER = 10_000
"""Spans that are known not to travel; of more, the one that began first is forgotten."""
_MOST_STEPS = 256
_Key = tuple[int, int]


class Ancestry:
    """Which spans are passed over, and what each of them is inside. Any thread may ask."""

    def __init__(self) -> None:
        self._around: dict[_Key, SpanContext | None] = {}

    def pass_over(self, span: ReadableSpan) -> None:
        """Notes a span that doesn't travel, as far as it is known by now."""
        context = span.context
        if context is None:
            return
        self._around[context.trace_id, context.span_id] = span.parent
        if len(self._around) > MOST_PASSED_OVER:
            try:
                self._around.pop(next(iter(self._around)), None)
            except (RuntimeError, StopIteration):
                pass  # another thread was at it in this moment, and will do it

    def travels(self, span: ReadableSpan) -> None:
        """Notes that a span travels after all."""
        context = span.context
        if context is not None and self._around:
            self._around.pop((context.trace_id, context.span_id), None)

    def placed(self, span: ReadableSpan) -> ReadableSpan:
        """The span, its parent being the nearest span around it that travels."""
        parent = span.parent
        for _ in range(_MOST_STEPS):
            if parent is None or (parent.trace_id, parent.span_id) not in self._around:
                break
            parent = self._around.get((parent.trace_id, parent.span_id))
        return span if parent is span.parent else SpanCopy.inside(span, parent)

    def clear(self) -> None:
        """Forgets all of them, as a child process must."""
        self._around = {}
