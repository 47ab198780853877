"""Cost for another exporter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from agentpulse_exporter import CostEnrichingExporter, calculate_cost
from fakes.pipe import CALL
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanKind, StatusCode

COST = "agentpulse.cost.total"


class Priced:
    """A tracer whose spans come out as they ended (`plain`), and with their cost."""

    def __init__(self, limits: SpanLimits | None = None, **options: Any) -> None:
        self._plain, self._priced = InMemorySpanExporter(), InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False, span_limits=limits)
        for exporter in (self._plain, CostEnrichingExporter(self._priced, **options)):
            provider.add_span_processor(SimpleSpanProcessor(exporter))
        self.tracer = provider.get_tracer("tests")

    def call(self, **more: Any) -> None:
        self.tracer.start_span("chat", attributes={**CALL, **more}).end()

    @property
    def plain(self) -> Sequence[ReadableSpan]:
        return self._plain.get_finished_spans()

    @property
    def priced(self) -> Sequence[ReadableSpan]:
        return self._priced.get_finished_spans()


def test_the_cost_is_added_for_another_exporter_on_a_copy() -> None:
    spans = Priced()
    spans.call()
    ((plain,), (priced,)) = spans.plain, spans.priced
    expected = calculate_cost("gpt-4o-2024-08-06", 1000, 100, cache_read_tokens=400)
    assert priced.attributes[COST] == pytest.approx(expected, abs=1e-12)
    parts = priced.attributes["agentpulse.cost.input"] + priced.attributes["agentpulse.cost.output"]
    assert parts == pytest.approx(expected, abs=1e-12)
    assert priced.attributes["agentpulse.cost.source"].startswith("genai-prices ")
    assert not [name for name in plain.attributes if name.startswith("agentpulse.cost")]


def test_all_else_of_the_span_is_as_it_was() -> None:
    spans = Priced(SpanLimits(max_events=1, max_links=1))
    with spans.tracer.start_as_current_span("agent") as agent:
        links = [Link(agent.get_span_context()), Link(agent.get_span_context())]
        call = spans.tracer.start_span(
            "chat", kind=SpanKind.CLIENT, attributes=CALL, links=links, start_time=10**18
        )
        call.add_event("lost")
        call.add_event("kept", {"app.step": 1})
        call.set_status(StatusCode.ERROR, "why")
        call.end()
    plain, priced = spans.plain[0], spans.priced[0]
    for name in (
        "name",
        "kind",
        "context",
        "parent",
        "start_time",
        "end_time",
        "status",
        "resource",
        "instrumentation_scope",
        "dropped_attributes",
        "dropped_events",
        "dropped_links",
    ):
        assert getattr(priced, name) == getattr(plain, name), name
    assert list(priced.events) == list(plain.events)
    assert list(priced.links) == list(plain.links)
    assert (priced.dropped_events, priced.dropped_links) == (1, 1)
    assert {**plain.attributes, **priced.attributes} == dict(priced.attributes)


@pytest.mark.parametrize(
    "attributes",
    [
        {"http.route": "/"},
        {**CALL, "gen_ai.operation.name": "invoke_agent"},
        {**CALL, "gen_ai.request.model": "nobodys", "gen_ai.response.model": "nobodys-model"},
        {**CALL, COST: 1.5},
        {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"},
    ],
    ids=["no call", "an agent", "an unknown model", "priced already", "no usage"],
)
def test_a_span_without_a_cost_to_add_passes_as_it_is(attributes: dict[str, Any]) -> None:
    spans = Priced()
    spans.tracer.start_span("any", attributes=attributes).end()
    assert spans.priced[0] is spans.plain[0]


def test_the_figure_of_the_provider_counts_before_the_prices() -> None:
    spans = Priced()
    spans.call(**{"agentpulse.cost.reported": 0.25})
    (priced,) = spans.priced
    assert priced.attributes[COST] == 0.25
    assert priced.attributes["agentpulse.cost.source"] == "provider"
    assert "agentpulse.cost.input" not in priced.attributes


def test_prices_of_the_users_own_count_before_the_known_ones() -> None:
    spans = Priced(prices={"gpt-4o*": {"input": 1, "output": 2}})
    spans.call()
    (priced,) = spans.priced
    assert priced.attributes[COST] == pytest.approx((1000 * 1 + 100 * 2) / 1e6, abs=1e-12)
    assert priced.attributes["agentpulse.cost.source"] == "override"


def test_what_another_layer_thinks_counts_where_no_price_is_known() -> None:
    spans = Priced()
    fallback = {"agentpulse.cost.fallback": 0.5}
    spans.call(**fallback)
    nobodys = {"gen_ai.request.model": "nobodys", "gen_ai.response.model": "nobodys"}
    spans.call(**fallback, **nobodys)
    spans.call(**nobodys)
    known, unknown, neither = spans.priced
    assert known.attributes["agentpulse.cost.source"].startswith("genai-prices")
    assert unknown.attributes[COST] == 0.5
    assert unknown.attributes["agentpulse.cost.source"] == "instrumentation"
    assert COST not in neither.attributes


def test_a_cost_of_estimated_tokens_says_so() -> None:
    spans = Priced()
    spans.call(**{"agentpulse.usage.estimated": True})
    assert spans.priced[0].attributes["agentpulse.cost.estimated"] is True


def test_prices_that_cannot_be_read_are_refused() -> None:
    with pytest.raises(ValueError, match="my-model"):
        CostEnrichingExporter(InMemorySpanExporter(), prices={"my-model": {"input": "much"}})


def test_what_the_inner_exporter_says_is_passed_on() -> None:
    class Inner(SpanExporter):
        asked: list[object]

        def __init__(self) -> None:
            self.asked = []

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            self.asked.append(len(spans))
            return SpanExportResult.FAILURE

        def force_flush(self, timeout_millis: int = 30000) -> bool:
            self.asked.append(timeout_millis)
            return False

        def shutdown(self) -> None:
            self.asked.append("shutdown")

    inner = Inner()
    exporter = CostEnrichingExporter(inner)
    assert exporter.export([ReadableSpan("odd")]) is SpanExportResult.FAILURE
    assert not exporter.force_flush(7)
    exporter.shutdown()
    assert inner.asked == [1, 7, "shutdown"]
