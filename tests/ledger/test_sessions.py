"""Sessions and cron runs, however their spans were made: starts, ends, sums, transcripts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from agentpulse_exporter import AgentPulseSpanExporter, AgentPulseSpanProcessor
from agentpulse_exporter._wire import mapper
from fakes.pipe import CALL, Pipe
from fakes.receiver import Receiver
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

SESSION = {
    "agentpulse.span.kind": "session",
    "session.id": "s:1",
    "agentpulse.session.name": "s",
}
CRON = {
    "agentpulse.span.kind": "cron",
    "session.id": "c:1",
    "agentpulse.session.name": "c",
    "agentpulse.cron.schedule": "@daily",
}
NESTED = {"agentpulse.session.ancestors": ("c:1",)}
MESSAGES = {
    "gen_ai.input.messages": json.dumps(
        [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]
    ),
    "gen_ai.output.messages": json.dumps(
        [{"role": "assistant", "parts": [{"type": "text", "content": "hello"}]}]
    ),
}


def test_the_sum_of_a_run_holds_the_calls_of_the_sessions_in_it(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    tracer = (sending := pipe()).tracer
    with tracer.start_as_current_span("c", attributes=CRON):
        with tracer.start_as_current_span("s", attributes={**SESSION, **NESTED}):
            for number in range(2):
                call = {**CALL, "gen_ai.response.id": f"r{number}", "session.id": "s:1", **NESTED}
                tracer.start_span("chat", attributes=call).end()
            priceless = {**CALL, "gen_ai.response.model": "nobody-knows", "session.id": "s:1"}
            priceless |= {"gen_ai.request.model": "nobody-knows", "gen_ai.response.id": "r2"}
            tracer.start_span("chat", attributes={**priceless, **NESTED}).end()
        tracer.start_span("chat", attributes={**CALL, "session.id": "c:1"}).end()
    assert sending.processor.flush()
    calls = [event["data"] for event in receiver.of_kind("llm_call")]
    (cron,) = receiver.of_kind("cron")
    (session,) = [e for e in receiver.of_kind("session") if e["data"].get("parent_session")][1:]
    assert (cron["data"]["calls"], session["data"]["calls"]) == (4, 3)
    for figure in ("tokens", "input_tokens", "output_tokens"):
        assert cron["data"][figure] == sum(call[figure] for call in calls)
        assert session["data"][figure] == sum(call[figure] for call in calls[:3])
    priced = [call["cost_usd"] for call in calls if call["cost_usd"] is not None]
    assert len(priced) == 3
    assert cron["data"]["cost_usd"] == pytest.approx(sum(priced), abs=1e-12)
    assert session["data"]["cost_usd"] == pytest.approx(sum(priced[:2]), abs=1e-12)


def test_a_span_counts_once_however_many_events_it_has(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = pipe()
    sending.tracer.start_span("c", attributes=CRON).end()
    assert sending.processor.flush()
    stats = sending.processor.stats()
    assert (stats.ended, stats.accepted) == (2, 2)  # its start, and its end
    kinds = [event["kind"] for event in receiver.events]
    assert kinds == ["span_start", "session", "cron", "session"]
    assert len({event["id"] for event in receiver.events}) == 4


def test_the_stock_processor_sends_ends_only(receiver: Receiver) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(AgentPulseSpanExporter(endpoint=receiver.url)))
    provider.get_tracer("any").start_span("c", attributes=CRON).end()
    provider.shutdown()
    assert [event["kind"] for event in receiver.events] == ["cron", "session"]


def test_an_unsampled_session_is_not_sent_at_its_start(receiver: Receiver) -> None:
    processor = AgentPulseSpanProcessor(AgentPulseSpanExporter(endpoint=receiver.url))
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    provider.get_tracer("any").start_span("c", attributes=CRON).end()
    assert processor.stop()
    assert receiver.events == []


def test_sessions_that_never_end_are_forgotten_in_the_end(
    receiver: Receiver, pipe: Callable[..., Pipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapper, "MOST_SESSIONS", 3)
    sending = pipe()
    for number in range(5):
        of_one = {**CALL, "session.id": f"s:{number}"}
        sending.tracer.start_span("chat", attributes=of_one).end()
    for number in (0, 4):
        ended = {**SESSION, "session.id": f"s:{number}"}
        sending.tracer.start_span("s", attributes=ended).end()
    assert sending.processor.flush()
    ends = [e["data"] for e in receiver.of_kind("session") if e["data"]["action"] == "end"]
    assert [end["calls"] for end in ends] == [0, 1]


def test_with_capture_a_sessions_latest_conversation_is_its_transcript(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = pipe(capture_messages=True)
    first = {**CALL, **MESSAGES, "session.id": "s:1"}
    alone = {name: value for name, value in first.items() if name != "session.id"}
    later: dict[str, Any] = {**first, "gen_ai.output.messages": "[]"}
    for attributes in (first, later, {**first, "session.id": "s:2"}, alone):
        sending.tracer.start_span("chat", attributes=attributes).end()
    assert sending.processor.flush()
    sent = {event["session"]: event["data"] for event in receiver.of_kind("transcript")}
    assert len(receiver.of_kind("transcript")) == 2
    user = {"role": "user", "content": "hi"}
    assert sent["s:1"] == {"messages": [user]}
    assert sent["s:2"] == {"messages": [user, {"role": "assistant", "content": "hello"}]}


def test_without_capture_there_is_no_transcript(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = pipe()
    sending.tracer.start_span("chat", attributes={**CALL, **MESSAGES, "session.id": "s:1"}).end()
    assert sending.processor.flush()
    assert receiver.of_kind("transcript") == []
    assert "hello" not in str(receiver.events)


def test_a_long_log_is_cut_to_what_the_receiver_takes(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = pipe()
    span = sending.tracer.start_span("s", attributes=SESSION)
    for number in range(120):
        span.add_event("agentpulse.session.log", {"message": f"{number} " + "x" * 3_000})
    span.end()
    assert sending.processor.flush()
    (end,) = [e for e in receiver.of_kind("session") if e["data"]["action"] == "end"]
    assert end["data"]["logs"][-1]["message"].startswith("119 ")
