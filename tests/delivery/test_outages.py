"""A receiver that gives no answer: what waits is kept, within its bounds, and arrives later."""

from __future__ import annotations

import re
import socketserver
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from agentpulse_exporter import AgentPulseSpanExporter
from agentpulse_exporter import exporter as exporters
from agentpulse_exporter._delivery import upload
from fakes.pipe import KEY, Pipe, adds_up, becomes_true, ended
from fakes.receiver import HANG_UP, Receiver
from opentelemetry.sdk.trace.export import SpanExportResult


def names(receiver: Receiver) -> list[str]:
    return [event["data"]["name"] for event in receiver.of_kind("llm_call")]


def test_an_outage_that_the_queue_can_hold_loses_nothing(
    port: int, pipe: Callable[..., Pipe]
) -> None:
    sending = pipe(f"http://127.0.0.1:{port}", flush_interval=0.01)
    expected = [str(number) for number in range(450)]
    for name in expected:
        sending.call(name)
    assert becomes_true(lambda: sending.processor.stats().requests >= 4)
    assert sending.processor.stats().dropped == {}
    assert sending.processor.stats().queued == 450
    with Receiver(port=port) as receiver:
        assert becomes_true(lambda: len(receiver.of_kind("llm_call")) == 450)
        assert names(receiver) == expected
        assert sending.processor.flush()
    assert sending.processor.stats().accepted == 450


@pytest.mark.parametrize("answer", [HANG_UP, 502, 503, 504, (503, {"Retry-After": "0"})], ids=str)
def test_one_batch_looks_for_a_receiver_that_is_away_and_nothing_else_is_sent(
    answer: Any, receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = pipe(flush_interval=0.01, max_batch_size=10)
    sending.tracer.start_span("first", attributes={"agentpulse.span.kind": "task"}).end()
    assert sending.processor.flush()
    receiver.requests.clear()
    receiver.script.extend([answer] * 6)
    for number in range(100):
        sending.call(str(number))
    assert becomes_true(lambda: len(receiver.of_kind("llm_call")) == 100)
    keys = [request["headers"]["Idempotency-Key"] for request in receiver.requests]
    # A kept connection that hangs up is tried again at once, on another one.
    assert len(set(keys[:6])) == 1
    assert sending.processor.stats().dropped == {}


def test_an_outage_is_logged_in_a_line_when_it_lasts_and_in_one_when_it_is_over(
    receiver: Receiver,
    pipe: Callable[..., Pipe],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(upload, "_LOGGED_AFTER", 0.0)
    receiver.script.extend([503] * 9)
    sending = pipe(flush_interval=0.01)
    for _ in range(3):
        sending.call()
    # A batch is counted a moment before the line is written.
    assert becomes_true(lambda: len(caplog.records) == 2)
    assert sending.processor.stats().accepted == 3
    away, back = [record.getMessage() for record in caplog.records]
    since = r"AgentPulse has not answered since \d\d:\d\d:\d\d \(server_error; .*\): [123] spans? "
    assert re.match(since, away)
    assert re.match(r"AgentPulse answers again after \d+ seconds", back)


def test_a_short_outage_is_not_logged(
    receiver: Receiver, pipe: Callable[..., Pipe], caplog: pytest.LogCaptureFixture
) -> None:
    receiver.script.extend([503] * 4)
    sending = pipe(flush_interval=0.01)
    sending.call()
    assert becomes_true(lambda: sending.processor.stats().accepted == 1)
    assert caplog.messages == []


def test_a_flush_looks_at_once_for_a_receiver_that_is_back(
    port: int, pipe: Callable[..., Pipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "FIRST_LOOK", 40.0)
    sending = pipe(f"http://127.0.0.1:{port}")
    sending.call()
    assert not sending.processor.flush(timeout=1)
    assert sending.exporter.sender.pause() > 20
    with Receiver(port=port) as receiver:
        assert sending.processor.flush(timeout=20)
        assert len(receiver.of_kind("llm_call")) == 1


def test_the_end_of_an_outage_that_outlasts_the_program_is_counted_as_such(
    port: int, pipe: Callable[..., Pipe], caplog: pytest.LogCaptureFixture
) -> None:
    sending = pipe(f"http://127.0.0.1:{port}", flush_interval=0.01)
    for _ in range(250):
        sending.call()
    assert becomes_true(lambda: sending.exporter.sender.pause() > 0)
    assert not sending.processor.stop()
    assert sending.processor.stats().dropped == {"unreachable": 250}
    (line,) = caplog.messages
    assert line.startswith("250 spans did not reach AgentPulse (in all unreachable: 250); check ")


def test_the_end_looks_once_more_for_a_receiver_that_was_away(
    port: int, pipe: Callable[..., Pipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "FIRST_LOOK", 40.0)
    sending = pipe(f"http://127.0.0.1:{port}")
    for _ in range(250):
        sending.call()
    assert becomes_true(lambda: sending.exporter.sender.pause() > 0)
    with Receiver(port=port) as receiver:
        assert sending.processor.stop()
        assert len(receiver.of_kind("llm_call")) == 250


def test_what_waits_too_long_gives_way_oldest_first(port: int, pipe: Callable[..., Pipe]) -> None:
    sending = pipe(f"http://127.0.0.1:{port}", max_queue_size=300, max_batch_size=100)
    for number in range(500):
        sending.call(str(number))
    stats = sending.processor.stats()
    dropped = stats.dropped["queue_full"]
    assert set(stats.dropped) == {"queue_full"}
    # One batch is with the worker.
    assert 100 <= dropped <= 200
    with Receiver(port=port) as receiver:
        assert not sending.processor.flush(timeout=20)
        assert len(names(receiver)) == 500 - dropped
        assert names(receiver)[-300:] == [str(number) for number in range(200, 500)]
    assert adds_up(sending.processor.stats())


def test_no_look_for_a_receiver_that_is_away_takes_more_than_the_queue_may_hold(
    port: int, pipe: Callable[..., Pipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "LAST_LOOK", 0.02)
    sending = pipe(f"http://127.0.0.1:{port}", max_queue_size=300)
    for look in range(10):
        for _ in range(100):
            sending.call()
        assert becomes_true(lambda look=look: sending.processor.stats().requests > look)
    # One batch is with the sender.
    assert 300 <= sending.processor.stats().queued <= 400
    assert adds_up(sending.processor.stats())


def test_the_exporter_alone_keeps_what_it_can_in_an_outage(port: int) -> None:
    exporter = AgentPulseSpanExporter(KEY, f"http://127.0.0.1:{port}")
    for _ in range(30):
        assert exporter.export(ended(10)) is SpanExportResult.SUCCESS
    assert not exporter.force_flush()
    assert (exporter.stats().queued, exporter.stats().dropped) == (300, {})
    with Receiver(port=port) as receiver:
        assert exporter.force_flush()
        assert receiver.events
    assert exporter.stats().accepted == 300
    exporter.shutdown()


@pytest.mark.parametrize(
    ("bound", "most", "reason"),
    [("MOST_KEPT", 50, "queue_full"), ("MOST_BYTES_KEPT", 100_000, "memory_full")],
)
def test_what_the_exporter_alone_keeps_is_bounded(
    port: int, bound: str, most: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporters, bound, most)
    exporter = AgentPulseSpanExporter(KEY, f"http://127.0.0.1:{port}")
    outcomes = [exporter.export(ended(10)) for _ in range(30)]
    assert SpanExportResult.FAILURE in outcomes
    stats = exporter.stats()
    assert set(stats.dropped) == {reason}
    assert stats.queued < 100
    assert adds_up(stats)
    exporter.shutdown()


def test_a_receiver_that_refuses_everything_costs_a_handful_of_requests(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    receiver.takes = lambda _event: False
    sending = pipe()
    for _ in range(99):
        sending.call()
    assert not sending.processor.flush(timeout=20)
    assert sending.processor.stats().dropped == {"rejected": 99}
    assert len(receiver.requests) <= 20


def test_an_answer_that_ends_in_its_head_is_none(pipe: Callable[..., Pipe]) -> None:
    heads = deque([b"HTTP/1.1 200 O", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Ty"])

    class Cut(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            length = 0
            while (line := self.rfile.readline().lower()) != b"\r\n":
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            self.rfile.read(length)
            answer = heads.popleft() if heads else b"HTTP/1.1 503 Busy\r\n\r\n"
            self.wfile.write(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Cut) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        sending = pipe(f"http://127.0.0.1:{server.server_address[1]}")
        sending.call()
        while heads:
            assert not sending.processor.flush()
        assert sending.processor.stats().accepted == 0
        assert sending.processor.stats().queued == 1
        sending.processor.stop(0)
        server.shutdown()
