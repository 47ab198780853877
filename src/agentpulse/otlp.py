"""The same spans, priced, to another backend by OTLP, beside our own upload."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from agentpulse_exporter import CostEnrichingExporter
from agentpulse_exporter.private import PrivateExporter
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from agentpulse.logs import warn_once

if TYPE_CHECKING:
    from agentpulse.settings import Settings

_PATH = "/v1/traces"
_PATIENCE = 2.0
"""Seconds that a sending may take, and that the end of the process waits for the last ones."""


def otlp_processor(settings: Settings) -> SpanProcessor | None:
    """What sends by OTLP over HTTP, where the settings say to; the extra `otlp` has the exporter.

    Headers, certificates and time-outs are those of OpenTelemetry's own variables
    (`OTEL_EXPORTER_OTLP_HEADERS` and its kin).
    """
    endpoint = settings.otlp_endpoint
    if endpoint is None:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        warn_once(
            "Nothing is sent by OTLP, because its exporter is not installed: "
            'pip install "agentpulse-sdk[otlp]".'
        )
        return None
    address = endpoint if endpoint.endswith(_PATH) else endpoint + _PATH
    private = PrivateExporter(
        OTLPSpanExporter(endpoint=address, timeout=_timeout()),
        capture_messages=settings.capture_messages,
        redact=settings.redact,
        export_all_spans=settings.export_all_spans,
    )
    priced = CostEnrichingExporter(private, prices=settings.prices)
    return Bounded(BatchSpanProcessor(priced), settings.shutdown_timeout)


class Bounded(SpanProcessor):
    """A processor whose shutdown is bounded: the stock one waits for 30 seconds."""

    def __init__(self, inner: SpanProcessor, shutdown_timeout: float) -> None:
        """`shutdown_timeout` in seconds."""
        self._inner = inner
        self._shutdown_timeout = shutdown_timeout

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Passes it on."""
        self._inner.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Passes it on."""
        self._inner.on_end(span)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Passes it on."""
        return self._inner.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Sends what is left, in a thread that is left behind where that takes too long."""
        thread = threading.Thread(target=self._inner.shutdown, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # At the very end of the interpreter no thread can be started any more.
            self._inner.shutdown()
        else:
            # Ours had its time before, and both together must not hold up the end of the process.
            thread.join(min(self._shutdown_timeout, _PATIENCE))


def _timeout() -> float | None:
    """Seconds for one sending, where OpenTelemetry's variables don't say."""
    named = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
    return None if any(os.environ.get(name) for name in named) else _PATIENCE
