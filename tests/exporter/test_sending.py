"""Spans on their way to a receiver: what arrives, how often it is tried, what is lost and why."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from agentpulse_exporter import (
    AgentPulseSpanExporter,
    AgentPulseSpanProcessor,
    CostEnrichingExporter,
    delivery,
    processor,
)
from fakes.receiver import Receiver
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

KEY = "ap_0123456789abcdef"
CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "gen_ai.response.id": "chatcmpl-1",
    "gen_ai.response.finish_reasons": ["stop"],
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.cache_read.input_tokens": 400,
    "gen_ai.usage.output_tokens": 100,
    "session.id": "daily-email:1",
}


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_WAIT", 0.01)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


class Pipe:
    """A tracer provider with our processor, to one receiver."""

    def __init__(self, url: str, **options: Any) -> None:
        given = {name: options.pop(name) for name in ("capture_messages",) if name in options}
        exporter = AgentPulseSpanExporter(KEY, url, "tests", **given)
        self.processor = AgentPulseSpanProcessor(exporter, **{"flush_interval": 60, **options})
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(self.processor)
        self.tracer = self.provider.get_tracer("tests")

    def call(self, name: str = "chat gpt-4o", **more: Any) -> None:
        self.tracer.start_span(name, attributes={**CALL, **more}).end()


@pytest.fixture
def pipe(receiver: Receiver) -> Iterator[Callable[..., Pipe]]:
    made: list[Pipe] = []

    def make(url: str = "", **options: Any) -> Pipe:
        made.append(Pipe(url or receiver.url, **options))
        return made[-1]

    yield make
    for each in made:
        each.processor.stop(timeout=0)


def adds_up(pipe: Pipe) -> bool:
    stats = pipe.processor.stats()
    return stats.ended == stats.accepted + sum(stats.dropped.values()) + stats.queued


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
    assert adds_up(sending)
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
    assert adds_up(sending)
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


def test_texts_are_cut_to_the_limits_and_figures_are_not(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = pipe(capture_messages=True)
    said = [{"role": "user", "parts": [{"type": "text", "content": "\U0001f600\ud83d" * 40_000}]}]
    sending.call(
        "n" * 9_000,
        **{
            "gen_ai.input.messages": json.dumps(said),
            "session.id": "s" * 2_000,
            "gen_ai.usage.output_tokens": 2**60,
        },
    )
    assert sending.processor.flush()
    (event,) = receiver.of_kind("llm_call")
    assert event["data"]["output_tokens"] == 2**60
    assert len(event["session"]) <= 256


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


def test_a_full_queue_drops_the_oldest_and_counts_it(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    receiver.script.append((429, {"Retry-After": "1"}))
    sending = pipe(max_queue_size=5, max_batch_size=100)
    sending.call("first")
    sending.processor.flush(timeout=0.1)
    for number in range(8):
        sending.call(f"call {number}")
    assert sending.processor.stats().dropped == {"queue_full": 3}
    sending.processor.flush(timeout=10)
    names = {event["data"]["name"] for event in receiver.of_kind("llm_call")}
    assert names == {"first", *(f"call {number}" for number in range(3, 8))}
    assert adds_up(sending)


def test_waiting_text_is_bounded(
    receiver: Receiver, pipe: Callable[..., Pipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "MOST_TEXT", 10_000)
    sending = pipe()
    for _ in range(10):
        sending.call(text="x" * 4_000)
    assert sending.processor.stats().dropped["memory_full"] >= 7
    assert sending.processor.flush(timeout=5)
    assert adds_up(sending)


def test_what_ends_after_the_stop_is_counted(receiver: Receiver, pipe: Callable[..., Pipe]) -> None:
    sending = pipe()
    sending.call()
    assert sending.processor.stop()
    sending.call()
    assert sending.processor.stats().dropped == {"after_shutdown": 1}
    assert not sending.processor.flush()
    assert adds_up(sending)
    assert len(receiver.of_kind("llm_call")) == 1


def test_only_spans_that_are_sampled_and_concern_agents_are_sent(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = pipe()
    sending.tracer.start_span("GET /").end()
    unsampled = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    unsampled.add_span_processor(sending.processor)
    unsampled.get_tracer("tests").start_span("chat", attributes=CALL).end()
    assert sending.processor.flush()
    assert sending.processor.stats().ended == 0
    everything = pipe(export_all_spans=True)
    everything.tracer.start_span("GET /").end()
    assert everything.processor.stats().ended == 1


def test_spans_of_many_threads_are_all_sent(receiver: Receiver, pipe: Callable[..., Pipe]) -> None:
    sending = pipe(max_batch_size=50)
    threads = [
        threading.Thread(target=lambda: [sending.call() for _ in range(100)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sending.processor.flush(timeout=20)
    assert len({event["id"] for event in receiver.of_kind("llm_call")}) == 800
    assert sending.processor.stats().accepted == 800


def test_a_span_that_a_finalizer_ends_while_another_is_queued_is_no_deadlock(
    receiver: Receiver, pipe: Callable[..., Pipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    sending = pipe()
    inside = []
    drop = sending.processor._drop_oldest

    def ends_another(reason: str) -> None:
        if not inside:
            inside.append(reason)
            sending.call("from a finalizer")
        drop(reason)

    monkeypatch.setattr(sending.processor, "_drop_oldest", ends_another)
    monkeypatch.setattr(sending.processor, "_max_queue_size", 1)
    sending.processor._is_called = True  # the worker stays asleep meanwhile
    sending.call()
    sending.call()
    gc.collect()
    assert inside == ["queue_full"]
    assert adds_up(sending)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_sends_its_own_spans_and_none_of_the_parents(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = pipe()
    sending.call("of the parent")
    child = os.fork()
    if child == 0:
        sending.call("of the child")
        os._exit(0 if sending.processor.flush(timeout=10) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert sending.processor.flush()
    names = sorted(event["data"]["name"] for event in receiver.of_kind("llm_call"))
    assert names == ["of the child", "of the parent"]


PROGRAM = """
import sys
from agentpulse_exporter import AgentPulseSpanExporter, AgentPulseSpanProcessor
from opentelemetry.sdk.trace import TracerProvider
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(AgentPulseSpanProcessor(AgentPulseSpanExporter("ap_x", sys.argv[1])))
attributes = {"gen_ai.operation.name": "chat"}
for _ in range(250):
    provider.get_tracer("x").start_span("chat", attributes=attributes).end()
"""


def test_what_is_queued_when_the_program_ends_is_sent(receiver: Receiver) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, receiver.url],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(receiver.of_kind("llm_call")) == 250


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


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers of this kind")
def test_a_signal_handler_may_end_spans(receiver: Receiver, pipe: Callable[..., Pipe]) -> None:
    sending = pipe()
    ended = []

    def handle(_number: int, _frame: object) -> None:
        ended.append(1)
        sending.call("from the handler")

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        for _ in range(400):
            sending.call()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert ended
    assert sending.processor.flush(timeout=10)
    assert sending.processor.stats().accepted == 400 + len(ended)
