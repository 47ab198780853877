"""Cost for another exporter."""

from __future__ import annotations

import pytest
from agentpulse_exporter import CostEnrichingExporter
from fakes.pipe import CALL
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


def test_the_cost_is_added_for_another_exporter_on_a_copy() -> None:
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    seen = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(seen))
    provider.add_span_processor(SimpleSpanProcessor(CostEnrichingExporter(memory)))
    provider.get_tracer("tests").start_span("chat", attributes=CALL).end()
    provider.get_tracer("tests").start_span("GET /").end()
    priced, other = memory.get_finished_spans()
    assert priced.attributes["agentpulse.cost.total"] == pytest.approx(0.003, abs=1e-12)
    assert "agentpulse.cost.total" not in seen.get_finished_spans()[0].attributes
    assert other is seen.get_finished_spans()[1]
