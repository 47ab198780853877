"""Spans on their way to a receiver: what arrives, how often it is tried, what is lost and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from agentpulse_exporter import AgentPulseSpanExporter
from fakes.pipe import CALL, KEY, Pipe, adds_up
from fakes.receiver import Receiver
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor


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
    receiver.script.extend([503, 503])
    sending = pipe()
    sending.call()
    assert sending.processor.flush()
    assert len(receiver.of_kind("llm_call")) == 1
    keys = {request["headers"]["Idempotency-Key"] for request in receiver.requests}
    assert (len(receiver.requests), len(keys)) == (3, 1)
    assert sending.processor.stats().retries == 2


def test_what_fails_three_times_is_lost_and_counted(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    receiver.script.extend([503] * 3)
    sending = pipe()
    sending.call()
    assert not sending.processor.flush()
    assert sum(sending.processor.stats().dropped.values()) == 1
    assert adds_up(sending.processor.stats())
    sending.call()
    assert sending.processor.flush()


def test_a_receiver_that_wants_nothing_for_now_gets_it_later(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    receiver.script.append((429, {"Retry-After": "1"}))
    sending = pipe()
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


def test_a_refused_key_is_said_once_and_what_waits_is_counted(
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
    (said,) = [record for record in caplog.records if "AGENTPULSE_API_KEY" in record.message]
    assert KEY not in said.message


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
