"""The same spans, priced, to another backend by OTLP, beside our own upload."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from agentpulse_exporter import CostEnrichingExporter
from agentpulse_exporter.counters import Counters
from agentpulse_exporter.dialects import concerns_agents
from agentpulse_exporter.origins import origins
from agentpulse_exporter.private import PrivateExporter

from agentpulse.bounded import BoundedBatchProcessor
from agentpulse.logs import warn_once

if TYPE_CHECKING:
    from agentpulse.settings import Settings

_PATH = "/v1/traces"
_PATIENCE = 2.0
"""Seconds that a sending may take."""


def otlp_processor(settings: Settings) -> BoundedBatchProcessor | None:
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
    destination = settings.shown("otlp_endpoint").strip("'")
    counters = Counters(destination)
    private = PrivateExporter(
        OTLPSpanExporter(endpoint=address, timeout=_timeout()),
        capture_messages=settings.capture_messages,
        redact=settings.redact,
        on_drop=counters.dropped,
    )
    priced = CostEnrichingExporter(private, prices=settings.prices, enabled=settings.enabled)
    return BoundedBatchProcessor(
        priced,
        destination,
        takes=lambda span: (
            (settings.export_all_spans or concerns_agents(span)) and not origins.is_inherited(span)
        ),
        counters=counters,
        max_queue_size=settings.max_queue_size,
        shutdown_timeout=settings.shutdown_timeout,
    )


def _timeout() -> float | None:
    """Seconds for one sending, where OpenTelemetry's variables don't say."""
    named = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
    return None if any(os.environ.get(name) for name in named) else _PATIENCE
