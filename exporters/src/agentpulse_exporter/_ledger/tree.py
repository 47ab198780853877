"""The tree of the spans that are sent, where spans around them aren't, and recent ids as such.

Web and database spans of the same provider aren't sent, so a span inside one of them is sent as a
child of the nearest span around it that is. Sessions, cron runs and agents are sent when they
start, too, so that a receiver sees what runs now.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter._semconv import Attributes
from agentpulse_exporter._wire.span_copy import SpanCopy

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")

MOST_UNSENT = 16_384
"""Spans that are known not to be sent, the last ones."""
_MOST_STEPS = 256
_SPAN_KINDS = frozenset({"session", "cron", "agent"})


class Recent(OrderedDict[_K, _V]):
    """Holds at most so many entries, the last ones that were set.

    Any thread may use it without a lock: each step on it is one of the interpreter's own.
    """

    def __init__(self, most: int, forget: Callable[[_V], Any] = id) -> None:
        """Empty, for `most` entries; `forget` is given each value that had to go."""
        super().__init__()
        self._most = most
        self._forget = forget

    def __setitem__(self, key: _K, value: _V) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        while len(self) > self._most:
            self._forget(self.popitem(last=False)[1])


class Tree:
    """Which spans aren't sent, and the parent of each. Any thread may ask."""

    def __init__(self) -> None:
        self.unsent = Recent[tuple[int, int], SpanContext | None](MOST_UNSENT)

    def leave_out(self, span: ReadableSpan) -> None:
        """Notes a span that isn't sent, as far as it is known by now."""
        context = span.context
        if context is not None:
            self.unsent[context.trace_id, context.span_id] = span.parent

    def include(self, span: ReadableSpan) -> None:
        """Notes that a span is sent after all."""
        context = span.context
        if context is not None and self.unsent:
            self.unsent.pop((context.trace_id, context.span_id), None)

    def placed(self, span: ReadableSpan) -> ReadableSpan:
        """The span, its parent being the nearest span around it that is sent."""
        parent = span.parent
        for _ in range(_MOST_STEPS):
            if parent is None or (parent.trace_id, parent.span_id) not in self.unsent:
                break
            parent = self.unsent.get((parent.trace_id, parent.span_id))
        return span if parent is span.parent else SpanCopy(span, parent=parent)


def is_sent_at_start(span: ReadableSpan) -> bool:
    """Whether it is a sampled session, cron run or agent, ours or by the conventions."""
    attributes: Attributes = span.attributes or {}
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
