"""A span inside one that isn't sent is a child of the next one around it that is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from agentpulse_exporter import AgentPulseSpanExporter
from agentpulse_exporter._ledger import ledger
from fakes.pipe import CALL, Pipe
from fakes.receiver import Receiver
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    format_span_id,
    set_span_in_context,
)

AGENT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "clerk"}
WEB = {"http.request.method": "GET"}


def nested(tracer: Any, *around: Any, inside: Any = None) -> list[Any]:
    """Spans that are inside each other, outermost first, ended innermost first."""
    spans: list[Any] = []
    for attributes in around:
        context = set_span_in_context(spans[-1]) if spans else inside
        spans.append(tracer.start_span("x", context, attributes=attributes))
    for span in reversed(spans):
        span.end()
    return spans


def parents(receiver: Receiver) -> dict[str, str | None]:
    """By span, the one around it, as sent."""
    return {
        event["span_id"]: event.get("parent_span_id")
        for event in receiver.events
        if event["kind"] in ("llm_call", "span_end")
    }


def ids(spans: list[Any]) -> list[str]:
    return [format_span_id(span.get_span_context().span_id) for span in spans]


@pytest.mark.parametrize("between", [[], [WEB], [WEB, WEB, WEB]])
def test_the_parent_is_the_nearest_span_that_is_sent(
    between: list[Any], pipe: Callable[..., Pipe], receiver: Receiver
):
    sending = pipe()
    agent, *_, call = ids(nested(sending.tracer, AGENT, *between, CALL))
    assert sending.processor.flush()

    assert parents(receiver) == {agent: None, call: agent}


def test_inside_none_that_is_sent_there_is_no_parent(pipe: Callable[..., Pipe], receiver: Receiver):
    sending = pipe()
    *_, call = ids(nested(sending.tracer, WEB, WEB, CALL))
    assert sending.processor.flush()

    assert parents(receiver) == {call: None}


def test_a_parent_in_another_process_stays(pipe: Callable[..., Pipe], receiver: Receiver):
    sending = pipe()
    remote = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1))
    inside = set_span_in_context(NonRecordingSpan(remote))
    *_, call = ids(nested(sending.tracer, WEB, CALL, inside=inside))
    assert sending.processor.flush()

    assert parents(receiver) == {call: format_span_id(2)}


def test_a_span_that_turns_out_to_be_of_an_agent_is_a_parent(
    pipe: Callable[..., Pipe], receiver: Receiver
):
    sending = pipe()
    late = sending.tracer.start_span("late")
    call = sending.tracer.start_span("call", set_span_in_context(late), attributes=CALL)
    call.end()
    late.set_attributes(AGENT)
    late.end()
    assert sending.processor.flush()

    outer, inner = ids([late, call])
    assert parents(receiver) == {outer: None, inner: outer}


def test_where_all_spans_are_sent_each_parent_is_the_parent(
    pipe: Callable[..., Pipe], receiver: Receiver
):
    sending = pipe(export_all_spans=True)
    agent, web, call = ids(nested(sending.tracer, AGENT, WEB, CALL))
    assert sending.processor.flush()

    assert parents(receiver) == {agent: None, web: agent, call: web}


def test_behind_the_stock_processor_it_is_known_of_what_comes_in_one_batch(receiver: Receiver):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(AgentPulseSpanExporter("ap_x", receiver.url)))
    agent, _, call = ids(nested(provider.get_tracer("x"), AGENT, WEB, CALL))
    provider.shutdown()

    assert parents(receiver) == {agent: None, call: agent}


def test_the_memory_of_unsent_spans_is_bounded(
    pipe: Callable[..., Pipe], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ledger, "MOST_UNSENT", 10)
    sending = pipe()
    for _ in range(1000):
        nested(sending.tracer, WEB, WEB)
    agent, _, call = ids(nested(sending.tracer, AGENT, WEB, CALL))
    assert sending.processor.flush()

    assert parents(receiver) == {agent: None, call: agent}
    assert len(sending.exporter.sender._mapper.tree.unsent) <= 10  # what must not grow
