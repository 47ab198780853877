"""Another exporter beside ours: what has to wait for it has an end, and no loss is silent."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from fakes import processes
from fakes.pipe import becomes_true
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult

import agentpulse
from agentpulse._otel.bounded import BoundedBatchProcessor


class Exporter(SpanExporter):
    """Takes spans when `gate` is open, and answers as it is told."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.answer = SpanExportResult.SUCCESS
        self.error: Exception | None = None
        self.names: list[str] = []
        self.batches = 0
        self.is_shut_down = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.batches += 1
        assert self.gate.wait(20)
        self.names += [span.name for span in spans]
        if self.error is not None:
            raise self.error
        return self.answer

    def shutdown(self) -> None:
        self.is_shut_down = True


class Sending:
    def __init__(self, provider: TracerProvider, **options: Any) -> None:
        self.exporter = Exporter()
        self.processor = BoundedBatchProcessor(lambda: self.exporter, "the collector", **options)
        provider.add_span_processor(self.processor)
        self._tracer = provider.get_tracer("tests")

    def hold(self, *names: str) -> None:
        """Has the exporter hold a full batch, until its gate is opened."""
        self.exporter.gate.clear()
        batches = self.exporter.batches
        self.tell(*names)
        assert becomes_true(lambda: self.exporter.batches == batches + 1)

    def tell(self, *names: str) -> None:
        for name in names:
            self._tracer.start_span(name).end()


@pytest.fixture
def sending(provider: TracerProvider) -> Callable[..., Sending]:
    return lambda **options: Sending(provider, **options)


def test_all_that_ended_is_sent_at_shutdown_and_nothing_is_said(
    sending: Callable[..., Sending], caplog: pytest.LogCaptureFixture
) -> None:
    sent = sending()
    sent.tell("first", "second")
    sent.processor.shutdown()
    sent.processor.shutdown()
    assert (sent.exporter.names, sent.exporter.is_shut_down) == (["first", "second"], True)
    assert caplog.text == ""


def test_a_flush_that_the_exporter_fails_is_no_success(sending: Callable[..., Sending]) -> None:
    sent = sending()
    sent.tell("first")
    assert sent.processor.force_flush(5000)
    sent.exporter.answer = SpanExportResult.FAILURE
    sent.tell("second")
    assert not sent.processor.force_flush(5000)
    assert sent.exporter.names == ["first", "second"]
    sent.processor.shutdown()
    assert not sent.processor.force_flush(5000)


def test_an_exporter_that_raises_has_failed_and_that_is_said_in_a_line(
    sending: Callable[..., Sending], caplog: pytest.LogCaptureFixture
) -> None:
    given = sending()
    given.exporter.error = TimeoutError("with a text of its own")
    for names in (["first", "second"], ["once more"]):
        given.tell(*names)
        assert not given.processor.force_flush(10_000)
    given.exporter.error = None
    given.tell("third")
    assert given.processor.force_flush(10_000)
    said = ["2 spans did not reach the collector (in all not_accepted: 2); TimeoutError"]
    assert caplog.messages == said
    given.processor.shutdown()
    assert caplog.messages == [*said, "1 span did not reach the collector (in all not_accepted: 3)"]


def test_a_flush_ends_when_its_time_is_over(sending: Callable[..., Sending]) -> None:
    sent = sending()
    sent.exporter.gate.clear()
    sent.tell("first")
    assert not sent.processor.force_flush(10)
    sent.exporter.gate.set()
    sent.processor.shutdown()
    assert sent.exporter.names == ["first"]


def test_the_oldest_give_way_where_there_is_no_room(
    sending: Callable[..., Sending], caplog: pytest.LogCaptureFixture
) -> None:
    sent = sending(max_queue_size=3)
    sent.hold("a", "b", "c")
    sent.tell(*"defgh")
    assert not [each for each in caplog.records if each.thread == threading.get_ident()]
    sent.exporter.gate.set()
    sent.processor.shutdown()
    sent.tell("afterwards")
    assert sent.exporter.names == ["a", "b", "c", "f", "g", "h"]
    (said,) = caplog.messages
    assert said.startswith("2 spans did not reach the collector (in all queue_full: 2)")


def test_what_became_of_each_span_is_counted_by_reason(sending: Callable[..., Sending]) -> None:
    sent = sending(max_queue_size=3)
    sent.tell("taken")
    assert sent.processor.force_flush(5000)
    sent.exporter.answer = SpanExportResult.FAILURE
    sent.tell("refused")
    assert not sent.processor.force_flush(5000)
    sent.exporter.answer = SpanExportResult.SUCCESS
    sent.hold("a", "b", "c")
    sent.tell(*"defgh")
    full = {"queue_full": 2, "not_accepted": 1}
    stats = sent.processor.stats()
    assert stats == agentpulse.Stats(ended=10, accepted=1, queued=6, dropped=full)
    sent.exporter.gate.set()
    sent.processor.shutdown()
    sent.tell("late", "later")
    late = {**full, "after_shutdown": 2}
    assert sent.processor.stats() == agentpulse.Stats(ended=12, accepted=7, dropped=late)


def test_what_is_given_up_at_the_end_is_counted(sending: Callable[..., Sending]) -> None:
    sent = sending(shutdown_timeout=0.05)
    sent.exporter.gate.clear()
    sent.tell("first", "second")
    sent.processor.shutdown()
    given_up = agentpulse.Stats(ended=2, dropped={"shutdown": 2})
    assert sent.processor.stats() == given_up
    sent.exporter.gate.set()


def test_it_ends_in_the_time_that_it_is_given_with_what_its_exporter_holds(
    sending: Callable[..., Sending],
) -> None:
    sent = sending()
    sent.exporter.gate.clear()
    sent.tell("first")
    assert not sent.processor.stop(0.01)
    assert sent.processor.stats() == agentpulse.Stats(ended=1, dropped={"shutdown": 1})
    sent.exporter.gate.set()


def test_after_a_loss_every_end_is_none_where_all_was_accepted(
    sending: Callable[..., Sending],
) -> None:
    sent = sending()
    sent.exporter.answer = SpanExportResult.FAILURE
    sent.tell("first")
    assert not sent.processor.force_flush(5000)
    sent.exporter.answer = SpanExportResult.SUCCESS
    sent.tell("second")
    assert sent.processor.force_flush(5000)
    assert not sent.processor.stop(5)
    assert not sent.processor.stop(5)


def test_what_is_not_for_the_exporter_takes_no_room_and_is_not_counted(
    sending: Callable[..., Sending],
) -> None:
    sent = sending(max_queue_size=1, takes=lambda span: span.name != "web")
    sent.exporter.gate.clear()
    sent.tell("web", "web", "call", "web")
    sent.exporter.gate.set()
    assert sent.processor.force_flush(5000)
    assert sent.exporter.names == ["call"]
    assert sent.processor.stats() == agentpulse.Stats(ended=1, accepted=1)
    sent.processor.shutdown()


def test_several_that_shut_it_down_at_once_say_the_loss_once(
    sending: Callable[..., Sending], caplog: pytest.LogCaptureFixture
) -> None:
    sent = sending(shutdown_timeout=0.05)
    sent.exporter.gate.clear()
    sent.tell("first", "second")
    threads = [threading.Thread(target=sent.processor.shutdown) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert caplog.messages == ["2 spans did not reach the collector (in all shutdown: 2)"]
    sent.exporter.gate.set()


def test_a_loss_is_said_also_where_the_end_began_before(
    sending: Callable[..., Sending], caplog: pytest.LogCaptureFixture
) -> None:
    sent = sending()
    sent.exporter.answer = SpanExportResult.FAILURE
    sent.tell("first")
    sent.processor.begin_shutdown()
    assert becomes_true(lambda: sent.exporter.is_shut_down)
    sent.processor.shutdown()
    assert caplog.messages == ["1 span did not reach the collector (in all not_accepted: 1)"]


def test_an_exporter_that_hangs_is_given_up_with_what_it_holds(
    sending: Callable[..., Sending], caplog: pytest.LogCaptureFixture
) -> None:
    sent = sending(shutdown_timeout=0.05)
    sent.exporter.gate.clear()
    sent.tell("first", "second")
    sent.processor.shutdown()
    assert caplog.messages == ["2 spans did not reach the collector (in all shutdown: 2)"]
    sent.exporter.gate.set()


def test_the_variables_of_opentelemetry_count(
    sending: Callable[..., Sending], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")
    sent = sending()
    sent.hold("a", "b")
    sent.tell(*"cdefgh")
    sent.exporter.gate.set()
    sent.processor.shutdown()
    assert (sent.exporter.names, sent.exporter.batches) == ([*"abefgh"], 3)


def test_sizes_that_make_no_sense_are_the_defaults(
    sending: Callable[..., Sending], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "many")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "100000")
    sent = sending()
    sent.tell("first")
    assert sent.processor.force_flush(5000)
    sent.processor.shutdown()


class RecordsOnly(Sampler):
    def should_sample(self, *_args: object, **_kwargs: object) -> SamplingResult:
        return SamplingResult(Decision.RECORD_ONLY)

    def get_description(self) -> str:
        return "RecordsOnly"


def test_spans_that_are_not_sampled_are_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    sent = Sending(TracerProvider(sampler=RecordsOnly(), shutdown_on_exit=False))
    sent.tell("dropped")
    sent.processor.shutdown()
    assert (sent.exporter.names, caplog.text) == ([], "")


FORKED = """
import os, sys
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter
from agentpulse._otel.bounded import BoundedBatchProcessor
provider = TracerProvider()
told = ConsoleSpanExporter(formatter=lambda span: f"{span.name}\\n")
provider.add_span_processor(BoundedBatchProcessor(lambda: told, "the console"))
tracer = provider.get_tracer("tests")
tracer.start_span("of the parent").end()
pid = os.fork()
tracer.start_span("of the child" if pid == 0 else "of the parent again").end()
if pid:
    os.waitpid(pid, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_sends_its_own_spans() -> None:
    done = processes.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED])
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.split("\n")) == [
        "",
        "of the child",
        "of the parent",
        "of the parent again",
    ]


ENDED = """
import atexit, socket, sys, threading
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from agentpulse._otel.bounded import BoundedBatchProcessor

class Hangs(SpanExporter):
    def export(self, spans):
        threading.Event().wait(60)
        return SpanExportResult.SUCCESS

def no_more_threads(self):
    raise RuntimeError("can't create new thread at interpreter shutdown")

provider = TracerProvider()
for name in ("the one", "the other"):
    provider.add_span_processor(BoundedBatchProcessor(Hangs, name, shutdown_timeout=0.1))
tracer = provider.get_tracer("tests")
@atexit.register
def at_the_very_end():
    threading.Thread.start = no_more_threads
    tracer.start_span("late").end()
"""


def test_the_end_is_bounded_also_where_no_thread_can_be_started_any_more() -> None:
    done = processes.run([sys.executable, "-c", ENDED])
    assert done.returncode == 0
    said = [
        f"1 span did not reach {name} (in all shutdown: 1)" for name in ("the one", "the other")
    ]
    assert done.stderr.splitlines() == said


def test_threads_that_end_spans_at_once_lose_none(sending: Callable[..., Sending]) -> None:
    sent = sending(max_queue_size=10_000)
    threads = [threading.Thread(target=sent.tell, args=("x",) * 100) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sent.processor.shutdown()
    assert becomes_true(lambda: len(sent.exporter.names) == 3200)
    runners = [each for each in threading.enumerate() if each.name == "agentpulse-batch"]
    assert becomes_true(lambda: not any(each.is_alive() for each in runners))
