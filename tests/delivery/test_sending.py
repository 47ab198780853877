"""Spans on their way to a receiver: what arrives, how often it is tried, what is lost and why."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any

import pytest
from agentpulse_exporter import AgentPulseSpanExporter
from fakes.pipe import CALL, KEY, Pipe, adds_up
from fakes.receiver import Receiver
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode


def proven(sending: Pipe, receiver: Receiver) -> Pipe:
    """The pipe, once its receiver has taken a compressed batch, with nothing left of that."""
    sending.tracer.start_span("first", attributes={"agentpulse.span.kind": "task"}).end()
    assert sending.processor.flush()
    receiver.requests.clear()
    receiver.events.clear()
    return sending


def test_a_call_arrives_as_an_event_and_in_the_sum_of_its_batch(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = pipe()
    sending.call()
    assert sending.processor.flush()
    event, cost = receiver.events
    data = dict(event["data"])
    assert data.pop("latency_ms") >= 0
    assert data.pop("started_at") <= event["ts"]
    assert data == {
        "name": "chat gpt-4o",
        "operation": "chat",
        "provider": "openai",
        "model": "gpt-4o-2024-08-06",
        "request_model": "gpt-4o",
        "response_id": "chatcmpl-1",
        "input_tokens": 1000,
        "output_tokens": 100,
        "cache_read_tokens": 400,
        "cache_write_tokens": None,
        "reasoning_tokens": None,
        "tokens": 1100,
        "cost_usd": pytest.approx((600 * 2.5 + 400 * 1.25 + 100 * 10) / 1e6, abs=1e-12),
        "ttft_ms": None,
        "streaming": False,
        "status": "success",
        "error_type": None,
        "finish_reasons": ["stop"],
    }
    assert (event["kind"], event["session"]) == ("llm_call", "daily-email:1")
    assert cost["kind"] == "cost"
    assert cost["data"] == {
        "model": "gpt-4o-2024-08-06",
        "provider": "openai",
        "tokens": 1100,
        "input_tokens": 1000,
        "output_tokens": 100,
        "cost_usd": data["cost_usd"],
        "calls": 1,
    }
    (request,) = receiver.requests
    assert request["headers"]["Authorization"] == f"Bearer {KEY}"
    assert request["headers"]["Content-Encoding"] == "gzip"
    assert request["headers"]["User-Agent"].startswith("agentpulse-python/")
    assert request["body"]["agent"] == "tests"


def test_an_upload_is_no_request_that_others_patch(
    receiver: Receiver, pipe: Callable[..., Pipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    for name in ("request", "putrequest", "putheader", "endheaders", "getresponse"):
        # As Sentry and Datadog do it.
        monkeypatch.setattr(HTTPConnection, name, lambda *arguments, **_: seen.append(arguments))
    sending = pipe()
    sending.call()
    assert sending.processor.flush()
    assert len(receiver.requests) == 1
    assert seen == []


def test_the_exporter_works_behind_any_processor(receiver: Receiver) -> None:
    exporter = AgentPulseSpanExporter(KEY, receiver.url)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("tests").start_as_current_span("agent") as parent:
        parent.set_attribute("agentpulse.span.kind", "agent")
        provider.get_tracer("tests").start_span("chat", attributes=CALL).end()
        provider.get_tracer("tests").start_span("GET /").end()
    provider.shutdown()
    (call,), (agent,) = receiver.of_kind("llm_call"), receiver.of_kind("span_end")
    assert call["parent_span_id"] == agent["span_id"]
    assert agent["data"]["span_kind"] == "agent"
    assert (exporter.stats().ended, exporter.stats().accepted) == (2, 2)


def test_a_failing_receiver_gets_the_same_events_again(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = proven(pipe(), receiver)
    receiver.script.extend([500, 408])
    sending.call()
    assert sending.processor.flush()
    assert len(receiver.of_kind("llm_call")) == 1
    keys = {request["headers"]["Idempotency-Key"] for request in receiver.requests}
    assert (len(receiver.requests), len(keys)) == (3, 1)
    assert sending.processor.stats().retries == 2


def test_what_fails_three_times_is_lost_and_counted(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = proven(pipe(), receiver)
    receiver.script.extend([500] * 5)  # from the second try on, in both forms
    sending.call()
    assert not sending.processor.flush()
    assert sending.processor.stats().dropped == {"server_error": 1}
    assert adds_up(sending.processor.stats())
    sending.call()
    assert sending.processor.flush()


def test_a_receiver_that_wants_nothing_for_now_gets_it_later(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = proven(pipe(), receiver)
    receiver.script.append((429, {"Retry-After": "1"}))
    sending.call()
    assert not sending.processor.flush(timeout=0.2)
    assert sending.processor.stats().queued == 1
    assert sending.processor.flush(timeout=10)
    assert len(receiver.of_kind("llm_call")) == 1


def test_a_receiver_without_gzip_gets_plain_batches(pipe: Callable[..., Pipe]) -> None:
    with Receiver(reads_gzip=False) as receiver:
        sending = pipe(receiver.url)
        for _ in range(2):
            sending.call()
            assert sending.processor.flush()
        codings = [request["headers"].get("Content-Encoding") for request in receiver.requests]
        assert codings == ["gzip", None, None]
        assert len(receiver.of_kind("llm_call")) == 2


def test_a_batch_that_is_too_large_is_halved(pipe: Callable[..., Pipe]) -> None:
    with Receiver(max_events=5) as receiver:
        sending = pipe(receiver.url)
        for number in range(20):
            sending.call(f"call {number}")
        assert sending.processor.flush()
        names = {event["data"]["name"] for event in receiver.of_kind("llm_call")}
        assert len(names) == 20


def test_a_receiver_that_refuses_everything_costs_a_handful_of_requests(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    receiver.script.extend([400] * 1000)
    sending = pipe(max_batch_size=100, flush_interval=60)
    for number in range(300):
        sending.call(f"call {number}")
    assert not sending.processor.flush()
    assert sending.processor.stats().dropped == {"rejected": 300}
    assert len(receiver.requests) <= 20

    receiver.script.clear()
    for number in range(100):
        sending.call(f"later {number}")
    assert sending.processor.flush()
    # From here on a bad event costs itself alone again.
    receiver.script.extend([400] * 5)
    for number in range(8):
        sending.call(f"last {number}")
    assert not sending.processor.flush()
    assert sending.processor.stats().dropped == {"rejected": 301}


def test_a_refused_key_is_logged_once_and_what_waits_is_counted(
    receiver: Receiver, pipe: Callable[..., Pipe], caplog: Any
) -> None:
    receiver.script.extend([401] * 9)
    sending = pipe()
    for _ in range(3):
        sending.call()
        assert not sending.processor.flush(timeout=1)
    sending.processor.stop(timeout=1)
    assert adds_up(sending.processor.stats())
    assert sending.processor.stats().accepted == 0
    (line,) = [record for record in caplog.records if "AGENTPULSE_API_KEY" in record.message]
    assert KEY not in line.message


def test_a_redirect_is_not_followed(receiver: Receiver, pipe: Callable[..., Pipe]) -> None:
    with Receiver() as elsewhere:
        receiver.script.extend([(302, {"Location": f"{elsewhere.url}/v1/ingest"})] * 3)
        sending = pipe()
        sending.call()
        assert not sending.processor.flush()
        assert elsewhere.requests == []


def test_no_content_leaves_without_capture(receiver: Receiver, pipe: Callable[..., Pipe]) -> None:
    sending = pipe()
    secret = "canary-1"
    sending.call(**{"gen_ai.input.messages": secret, "gen_ai.system_instructions": secret})
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.arguments": secret}
    span = sending.tracer.start_span("tool", attributes=tool)
    span.record_exception(ValueError(secret))
    span.end()
    assert sending.processor.flush()
    assert len(receiver.events) == 3
    assert secret not in str(receiver.events)


def test_an_agent_arrives_as_the_end_of_its_span(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = pipe()
    attributes = {"gen_ai.operation.name": "invoke_agent", "session.id": "one", "app.step": 3}
    with sending.tracer.start_as_current_span("agent", attributes=attributes) as parent:
        tool = {"gen_ai.operation.name": "execute_tool", "error.type": "timeout"}
        sending.tracer.start_span("tool", attributes=tool).end()
    assert sending.processor.flush()
    agent_started, tool_event, agent_event = receiver.events
    assert agent_started["kind"] == "span_start"
    assert agent_started["ts"] == parent.start_time / 1e9
    assert agent_started["span_id"] == agent_event["span_id"]
    assert agent_started["data"] == {
        "name": "agent",
        "span_kind": "agent",
        "started_at": parent.start_time / 1e9,
    }
    context = parent.get_span_context()
    assert agent_event.pop("ts") == parent.end_time / 1e9
    assert agent_event["data"].pop("duration_ms") >= 0
    assert agent_event == {
        "kind": "span_end",
        "id": f"{context.span_id:016x}-{parent.start_time:x}-span_end",
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
        "session": "one",
        "data": {
            "name": "agent",
            "span_kind": "agent",
            "started_at": parent.start_time / 1e9,
            "status": "success",
            "error_type": None,
            "attributes": {"gen_ai.operation.name": "invoke_agent", "app.step": 3},
        },
    }
    assert tool_event["parent_span_id"] == agent_event["span_id"]
    assert "session" not in tool_event
    data = tool_event["data"]
    assert (data["span_kind"], data["status"], data["error_type"]) == ("tool", "error", "timeout")


def test_content_is_sent_with_capture(receiver: Receiver, pipe: Callable[..., Pipe]) -> None:
    sending = pipe(capture_messages=True)
    messages = [{"role": "user", "parts": [{"type": "text", "content": "canary-1"}]}]
    sending.call(**{"gen_ai.input.messages": json.dumps(messages)})
    tool = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.call.arguments": "canary-2",
        "gen_ai.tool.call.result": "canary-3",
    }
    span = sending.tracer.start_span("tool", attributes=tool)
    span.set_status(StatusCode.ERROR, "canary-4")
    span.end()
    assert sending.processor.flush()
    (call,), (tool_event,) = receiver.of_kind("llm_call"), receiver.of_kind("span_end")
    assert call["data"]["messages"] == [{"role": "user", "content": "canary-1"}]
    data = tool_event["data"]
    assert (data["args"], data["result"], data["error"]) == ("canary-2", "canary-3", "canary-4")


def test_the_exporter_works_behind_the_batch_processor_of_the_sdk(receiver: Receiver) -> None:
    exporter = AgentPulseSpanExporter(KEY, receiver.url)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=60_000))
    for _ in range(700):
        provider.get_tracer("tests").start_span("chat", attributes=CALL).end()
    assert provider.force_flush()
    provider.shutdown()
    assert len({event["id"] for event in receiver.of_kind("llm_call")}) == 700
    assert sum(event["data"]["calls"] for event in receiver.of_kind("cost")) == 700
    assert exporter.stats().accepted == 700


def test_the_exporter_says_what_it_lost_and_keeps_what_is_wanted_later(receiver: Receiver) -> None:
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    provider.get_tracer("tests").start_span("chat", attributes=CALL).end()
    spans = memory.get_finished_spans()
    exporter = AgentPulseSpanExporter(KEY, receiver.url)
    # Each try is two, as long as it isn't known whether the receiver reads gzip.
    receiver.script.extend([500] * 6 + [(429, {"Retry-After": "1"})] * 2)
    assert exporter.export(spans) is SpanExportResult.FAILURE
    assert exporter.export(spans) is SpanExportResult.SUCCESS
    assert not exporter.force_flush()
    assert exporter.stats().queued == 1
    exporter.shutdown()
    exporter.shutdown()
    assert exporter.export(spans) is SpanExportResult.FAILURE
    assert exporter.stats().dropped == {"server_error": 1, "shutdown": 1, "after_shutdown": 1}
    assert adds_up(exporter.stats())


def test_one_bad_event_takes_no_others_with_it(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    receiver.takes = lambda event: event["data"].get("name") != "bad"
    sending = pipe()
    for name in ("first", "second", "bad", "third", "fourth"):
        sending.call(name)
    assert not sending.processor.flush()
    names = [event["data"]["name"] for event in receiver.of_kind("llm_call")]
    assert names == ["first", "second", "third", "fourth"]
    stats = sending.processor.stats()
    assert (stats.accepted, dict(stats.dropped), stats.queued) == (4, {"rejected": 1}, 0)


def test_events_that_the_receiver_says_it_refused_are_counted(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    receiver.keeps_the_rest = True
    receiver.takes = lambda event: event["data"].get("name") != "bad"
    sending = pipe()
    sending.call("good")
    sending.call("bad")
    assert not sending.processor.flush()
    stats = sending.processor.stats()
    assert (len(receiver.requests), stats.accepted, dict(stats.dropped)) == (1, 1, {"rejected": 1})


def test_after_a_refused_key_nothing_is_asked_for_a_while(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = proven(pipe(), receiver)
    receiver.script.append(401)
    for _ in range(3):
        sending.call()
        assert not sending.processor.flush(timeout=0.2)
    assert len(receiver.requests) == 1
    assert sending.processor.stats().dropped == {"unauthorized": 1}
    assert sending.processor.stats().queued == 2
    assert sending.exporter.sender.delivery.pause() > 30


def test_a_failure_does_not_turn_compression_off(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = pipe()
    sending.call()
    assert sending.processor.flush()
    receiver.script.append(500)
    sending.call()
    assert sending.processor.flush()
    codings = [request["headers"].get("Content-Encoding") for request in receiver.requests]
    assert codings == ["gzip"] * 3


def test_a_batch_keeps_below_the_size_that_is_taken(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = pipe(capture_messages=True)
    messages = [{"role": "user", "parts": [{"type": "text", "content": "w" * 12_000}]}]
    for _ in range(60):
        sending.call(**{"gen_ai.input.messages": json.dumps(messages)})
    assert sending.processor.flush()
    assert len(receiver.of_kind("llm_call")) == 60
    assert len(receiver.requests) < 6
    assert all("body" in request for request in receiver.requests)
    assert sending.processor.stats().retries == 0
