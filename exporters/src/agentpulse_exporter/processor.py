"""`AgentPulseSpanProcessor`: queues spans that concern agents, and sends them in the background."""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span

from agentpulse_exporter import _semconv as semconv
from agentpulse_exporter import settings
from agentpulse_exporter._delivery.process import at_end_of_child, at_exit
from agentpulse_exporter._delivery.queue import QueueProcessor
from agentpulse_exporter.exporter import AgentPulseSpanExporter

_STARTING = frozenset({"session", "cron", "agent"})
"""The kinds of spans that are also sent when they start, so that a receiver sees running work."""


class AgentPulseSpanProcessor(QueueProcessor):
    """Batches spans that concern agents in bounded memory, and sends them in the background.

    Its thread starts with the first span. In a forked child it starts over, with an empty queue.

    Args:
        exporter: Its settings and its connection are used. Its `export` is not called, so that
            overriding that has no effect here.
        flush_interval: Seconds between two sendings, from 0.01 up.
        max_queue_size: Spans that wait, at most; the oldest are dropped, and counted. 32 MiB of
            text is a second bound.
        max_batch_size: As soon as so many spans wait, they are sent, from 1 to 500; events that
            don't fill a request wait on.
        shutdown_timeout: Seconds that `shutdown`, or the end of the process, may take.
        export_all_spans: Whether spans that have nothing to do with agents are sent too.

    Raises:
        ConfigurationError: One of these can't be used (a ValueError).
    """

    def __init__(
        self,
        exporter: AgentPulseSpanExporter,
        *,
        flush_interval: float = 5.0,
        max_queue_size: int = 10_000,
        max_batch_size: int = 100,
        shutdown_timeout: float = 5.0,
        export_all_spans: bool = False,
    ) -> None:
        check = settings.verify_one
        self._exporter, self._spans = exporter, exporter.sender
        self._spans.export_all_spans |= export_all_spans
        super().__init__(
            self._spans,
            self._spans.counters,
            flush_interval=check("flush_interval", flush_interval, settings.FLUSH_INTERVAL),
            max_queue_size=check("max_queue_size", max_queue_size, settings.QUEUE_SIZE),
            max_batch_size=check("max_batch_size", max_batch_size, settings.BATCH_SIZE),
            shutdown_timeout=check("shutdown_timeout", shutdown_timeout, settings.SHUTDOWN_TIMEOUT),
        )
        at_exit(self.finish)
        at_end_of_child(self.finish)

    def on_start(
        self,
        span: Span,
        parent_context: Context | None = None,  # noqa: ARG002  # as the SDK calls it
    ) -> None:
        """Registers every span that starts; queues the start of a session, cron run or agent."""
        self._spans.announce(span)
        if _is_sent_at_start(span) and self._is_taken(span):
            self.enqueue(_as_started(span))
            self.send_soon()

    def on_end(self, span: ReadableSpan) -> None:
        """Queues a span that is sampled and concerns agents. No I/O, no waiting, no logging."""
        if self._is_queued(span) and self._is_taken(span):
            super().enqueue(span)

    def take_ownership(self, span: ReadableSpan) -> None:
        """Claims a span that starts or ends, if this processor will queue it.

        The caller sees the span before all other processors of its provider. No other exporter with
        the same destination then sends it. Without this call, the first AgentPulse processor that
        sees the span owns it.
        """
        owner = self._spans.owner
        if owner.is_alone or self.is_stopped:
            return
        if _is_sent_at_start(span) if span.end_time is None else self._is_queued(span):
            owner.claim(span)

    def enqueue(self, span: ReadableSpan) -> None:
        """Queues any span, also one that was made outside a tracer."""
        if self._spans.is_on:
            super().enqueue(span)

    def flush(self, timeout: float = 5.0) -> bool:
        """Sends all spans that have ended until now; waits `timeout` seconds at most. Never raises.

        Returns:
            True only if all of them were accepted. A loss that no flush has reported so far makes
            the result False, even if it happened before this call.
        """
        return not self._spans.is_on or super().flush(timeout)

    def _is_taken(self, span: ReadableSpan) -> bool:
        """Claims the span, and returns whether this processor sends it.

        A stopped processor doesn't send it if other exporters have its destination.
        """
        owner = self._spans.owner
        return not (self.is_stopped and not owner.is_alone) and owner.claim(span)

    def _is_queued(self, span: ReadableSpan) -> bool:
        context = span.context
        return context is not None and context.trace_flags.sampled and self._spans.takes(span)


def _is_sent_at_start(span: ReadableSpan) -> bool:
    """Whether it is a sampled session, cron run or agent (by our kinds or the conventions)."""
    attributes = span.attributes or {}
    if not (
        attributes.get(semconv.SPAN_KIND) in _STARTING
        or attributes.get(semconv.OPERATION_NAME) == "invoke_agent"
    ):
        return False
    return span.context is not None and span.context.trace_flags.sampled


def _as_started(span: ReadableSpan) -> ReadableSpan:
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
