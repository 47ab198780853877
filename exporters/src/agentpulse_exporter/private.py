"""Spans for another backend, with no more said in them than AgentPulse itself is told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Status

from agentpulse_exporter.content import without_content
from agentpulse_exporter.dialects import current_attributes, shown_attributes
from agentpulse_exporter.redaction import RedactionFailed, redacted
from agentpulse_exporter.span_copy import SpanCopy, without_bodies_of

_logger = logging.getLogger("agentpulse.exporter")


class PrivateExporter(SpanExporter):
    """Passes copies of spans on that hold no content, or redacted content where it is captured.

    Bodies of files and images are never passed on.

    Spans of other instrumentations have the words of the current conventions beside their own.

    Args:
        inner: The exporter that gets them, whose results and timeouts are those of this one.
        capture_messages: Whether messages, arguments, results and texts of errors are passed on.
        redact: As that of `AgentPulseSpanExporter`; a span for which it fails is left out.
        on_drop: Is told the reason why a span is left out, in the words of `Stats.dropped`.
    """

    def __init__(
        self,
        inner: SpanExporter,
        *,
        capture_messages: bool = False,
        redact: Callable[[str], str] | None = None,
        on_drop: Callable[[str], object] = lambda _reason: None,
    ) -> None:
        self._inner = inner
        self._capture_messages = capture_messages
        self._redact = redact
        self._on_drop = on_drop

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Exports what may be seen of the spans."""
        seen = [each for span in spans if (each := self._seen(span)) is not None]
        return self._inner.export(seen) if seen else SpanExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Asks the inner exporter."""
        return self._inner.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Shuts the inner exporter down."""
        self._inner.shutdown()

    def _seen(self, span: ReadableSpan) -> ReadableSpan | None:
        try:
            span = without_bodies_of(span)
            attributes = current_attributes(span, with_content=self._capture_messages)
            told = span
            if self._redact is not None:
                told, attributes = redacted(span, attributes, self._redact)
            if not self._capture_messages:
                known = without_content(shown_attributes(span, attributes))
                told = SpanCopy(span, known, Status(span.status.status_code)).with_own_events()
                return told.without_others_content()
            if self._redact is None:
                return SpanCopy(span, attributes)
            return SpanCopy(span, attributes, told.status).with_own_events()
        except RedactionFailed as error:
            _logger.debug("A text could not be redacted: %s", error)
            self._on_drop("redaction_failed")
        except Exception as error:  # noqa: BLE001  # a span that can't be read must not be shown
            _logger.debug("A span could not be read: %s", type(error).__name__)
            self._on_drop("unmappable")
        return None
