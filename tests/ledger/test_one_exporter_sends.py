"""Several exporters with one destination on one provider: each span is sent once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from agentpulse_exporter import AgentPulseSpanExporter, AgentPulseSpanProcessor
from agentpulse_exporter._ledger import ledger
from fakes.pipe import CALL, KEY, Pipe, adds_up
from fakes.receiver import Receiver
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

AGENT = {"gen_ai.operation.name": "invoke_agent"}
ONE_OF_EACH = ["cost", "llm_call", "span_end", "span_start"]


def by_stock(exporter: AgentPulseSpanExporter) -> BatchSpanProcessor:
    return BatchSpanProcessor(exporter, schedule_delay_millis=60_000)


def by_ours(exporter: AgentPulseSpanExporter) -> AgentPulseSpanProcessor:
    return AgentPulseSpanProcessor(exporter, flush_interval=60)


def story(provider: TracerProvider) -> None:
    with provider.get_tracer("tests").start_as_current_span("clerk", attributes=AGENT):
        provider.get_tracer("tests").start_span("chat gpt-4o", attributes=CALL).end()


@pytest.fixture
def other(receiver: Receiver) -> Iterator[AgentPulseSpanExporter]:
    exporter = AgentPulseSpanExporter(KEY, receiver.url)
    yield exporter
    exporter.shutdown()


@pytest.mark.parametrize("behind", [by_stock, SimpleSpanProcessor, by_ours])
def test_a_span_that_our_processor_takes_no_later_exporter_sends_again(
    behind: Any, receiver: Receiver, pipe: Callable[..., Pipe], other: AgentPulseSpanExporter
) -> None:
    first = pipe()
    first.provider.add_span_processor(behind(other))
    story(first.provider)
    assert first.provider.force_flush()
    assert sorted(event["kind"] for event in receiver.events) == ONE_OF_EACH
    assert other.stats().ended == 0
    assert adds_up(first.processor.stats())
    first.provider.shutdown()


def test_a_processor_with_another_address_or_key_sends_every_span(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    first = pipe()
    with Receiver() as elsewhere:
        for key, url in ((KEY, elsewhere.url), ("ap_another_key", receiver.url)):
            exporter = AgentPulseSpanExporter(key, url)
            first.provider.add_span_processor(by_stock(exporter))
        story(first.provider)
        assert first.provider.force_flush()
        first.provider.shutdown()
        assert len(elsewhere.of_kind("llm_call")) == 1
        assert len(receiver.of_kind("llm_call")) == 2


def test_spans_of_another_provider_are_the_other_exporters(
    receiver: Receiver, pipe: Callable[..., Pipe], other: AgentPulseSpanExporter
) -> None:
    first, second = pipe(), TracerProvider(shutdown_on_exit=False)
    second.add_span_processor(by_stock(other))
    story(second)
    story(first.provider)
    second.shutdown()
    assert first.processor.flush()
    assert len(receiver.of_kind("llm_call")) == 2
    assert other.stats().accepted == 2


def test_what_our_processor_does_not_take_the_other_exporter_sends(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    first = pipe()
    everything = AgentPulseSpanExporter(KEY, receiver.url, export_all_spans=True)
    first.provider.add_span_processor(by_stock(everything))
    first.tracer.start_span("GET /").end()
    story(first.provider)
    assert first.provider.force_flush()
    first.provider.shutdown()
    assert len(receiver.of_kind("llm_call")) == 1
    sent = [event["data"]["name"] for event in receiver.of_kind("span_end")]
    assert sorted(sent) == ["GET /", "clerk"]


def test_once_our_processor_has_stopped_the_other_exporter_goes_on(
    receiver: Receiver, pipe: Callable[..., Pipe], other: AgentPulseSpanExporter
) -> None:
    first = pipe()
    first.provider.add_span_processor(by_stock(other))
    first.call("of the first")
    assert first.processor.stop()
    first.provider._active_span_processor._span_processors = (
        first.provider._active_span_processor._span_processors[1:]
    )
    # The spans that the stock processor still holds were sent.
    first.call("of the second")
    assert first.provider.force_flush()
    first.provider.shutdown()
    sent = [event["data"]["name"] for event in receiver.of_kind("llm_call")]
    assert sent == ["of the first", "of the second"]
    assert other.stats().ended == 1


def test_spans_that_are_copied_on_their_way_are_known(
    receiver: Receiver, pipe: Callable[..., Pipe], other: AgentPulseSpanExporter
) -> None:
    class Copying(BatchSpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            copy = ReadableSpan(
                name=span.name,
                context=span.context,
                attributes={**(span.attributes or {}), "seen": True},
                start_time=span.start_time,
                end_time=span.end_time,
            )
            super().on_end(copy)

    first = pipe()
    first.provider.add_span_processor(Copying(other))
    first.call()
    assert first.provider.force_flush()
    first.provider.shutdown()
    assert len(receiver.of_kind("llm_call")) == 1


def test_owners_take_bounded_memory_and_none_where_there_is_one_exporter(
    pipe: Callable[..., Pipe], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MOST_OWNED", 4)
    # An earlier test's receiver may have had this address.
    monkeypatch.setattr(ledger, "_by_destination", {})
    first = pipe()
    kept = first.exporter.sender.owner.destination.owners
    first.call()
    assert len(kept) == 0
    second = AgentPulseSpanExporter(KEY, receiver.url)
    for _ in range(9):
        first.call()
    assert len(kept) == 4
    second.shutdown()
    first.call()
    assert len(kept) == 4
    assert first.processor.flush()
