"""The queue of ended spans: its bounds, its end, threads, forks and signals."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from agentpulse_exporter import (
    AgentPulseSpanExporter,
    AgentPulseSpanProcessor,
    ConfigurationError,
)
from agentpulse_exporter._delivery import stats as bounds
from fakes import processes
from fakes.pipe import CALL, KEY, Pipe, adds_up, becomes_true
from fakes.receiver import Receiver
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode


def test_a_full_queue_drops_the_oldest_and_counts_it(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    receiver.script.extend([(429, {"Retry-After": "1"})] * 2)
    sending = pipe(max_queue_size=5, max_batch_size=100)
    sending.call("first")
    sending.processor.flush(timeout=0.1)
    for number in range(8):
        sending.call(f"call {number}")
    assert sending.processor.stats().dropped == {"queue_full": 3}
    sending.processor.flush(timeout=10)
    names = {event["data"]["name"] for event in receiver.of_kind("llm_call")}
    assert names == {"first", *(f"call {number}" for number in range(3, 8))}
    assert adds_up(sending.processor.stats())


FORMS: dict[str, Callable[[Any], object]] = {
    "a text": lambda span: span.set_attribute("gen_ai.input.messages", "x" * 40_000),
    "beyond ASCII": lambda span: span.set_attribute("gen_ai.input.messages", "\U0001f600" * 10_000),
    "a list of texts": lambda span: span.set_attribute("gen_ai.prompts", ["x" * 40] * 350),
    "a list of numbers": lambda span: span.set_attribute("embedding", [0.5] * 1300),
    "an event": lambda span: span.add_event("gen_ai.content.prompt", {"prompt": "x" * 40_000}),
    "an exception": lambda span: span.record_exception(ValueError("x" * 20_000)),
    "a name": lambda span: span.update_name(f"{span.name} {'x' * 40_000}"),
    "the name of an event": lambda span: span.add_event("x" * 40_000),
    "the name of an attribute": lambda span: span.set_attribute("x" * 40_000, 1),
    "many events": lambda span: [span.add_event("retry") for _ in range(77)],
    "a link": lambda span: span.add_link(span.get_span_context(), {"prompt": "x" * 40_000}),
    "a status": lambda span: span.set_status(StatusCode.ERROR, "x" * 40_000),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_waits_is_bounded_by_the_bytes_that_it_takes(
    form: str, receiver: Receiver, pipe: Callable[..., Pipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MOST_TEXT", 100_000)
    sending = pipe()
    for number in range(10):
        span = sending.tracer.start_span(str(number), attributes=CALL)
        FORMS[form](span)
        span.end()
    # Two fit, and one of 40,000 characters of which some are counted twice.
    assert 7 <= sending.processor.stats().dropped["memory_full"] <= 8
    assert not sending.processor.flush(timeout=5)
    assert sending.processor.flush(timeout=5)
    assert adds_up(sending.processor.stats())
    names = [event["data"]["name"] for event in receiver.of_kind("llm_call")]
    assert [name[0] for name in names[-2:]] == ["8", "9"]


def test_a_span_of_which_nothing_can_be_measured_is_queued_like_any_other(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    class Lazy(str):
        __slots__ = ()

        def __len__(self) -> int:
            raise RuntimeError

    sending = pipe()
    sending.tracer.start_span("chat", attributes={**CALL, "prompt": Lazy("Hello")}).end()
    sending.processor.flush()
    assert adds_up(sending.processor.stats())
    assert sending.processor.stats().queued == 0


def test_no_more_text_is_taken_at_once_than_memory_allows(
    receiver: Receiver, pipe: Callable[..., Pipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MOST_TEXT_AT_ONCE", 10_000)
    taken: list[int] = []
    sending = pipe()
    send = sending.exporter.sender.send
    monkeypatch.setattr(
        sending.exporter.sender,
        "send",
        lambda spans, **more: (taken.append(len(spans)), send(spans, **more)),
    )
    for _ in range(10):
        sending.call(text="x" * 6_000)
    assert sending.processor.flush()
    assert taken[:5] == [2] * 5


def test_a_queue_of_any_size_holds_as_many_ordinary_spans(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    receiver.script.extend([(429, {"Retry-After": "60"})] * 2)
    sending = pipe(max_queue_size=20_000, max_batch_size=1)
    sending.call()
    assert becomes_true(lambda: sending.exporter.sender.pause() > 0)
    for _ in range(20_000):
        sending.call()
    assert sending.processor.stats().dropped == {}


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "flush_interval": [0, 0.0, -1, float("inf"), float("nan"), "5", None, True],
        "max_queue_size": [0, -1, 1.5, "100", None, True],
        "max_batch_size": [0, -1, 1.5, "100", None, True],
        "shutdown_timeout": [-1, float("inf"), float("nan"), "5", None],
    }.items(),
)
def test_an_argument_that_would_spin_or_lose_is_refused(
    name: str, values: list[object], receiver: Receiver
) -> None:
    exporter = AgentPulseSpanExporter(KEY, receiver.url)
    for value in values:
        given: dict[str, Any] = {name: value}
        with pytest.raises(ValueError, match=f"The argument {name} is .*; expected") as raised:
            AgentPulseSpanProcessor(exporter, **given)
        assert isinstance(raised.value, ConfigurationError)
    exporter.shutdown()


def test_what_ends_after_the_stop_is_counted(receiver: Receiver, pipe: Callable[..., Pipe]) -> None:
    sending = pipe()
    sending.call()
    assert sending.processor.stop()
    sending.call()
    assert sending.processor.stats().dropped == {"after_shutdown": 1}
    assert not sending.processor.flush()
    assert adds_up(sending.processor.stats())
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
    queue = sending.processor._waiting
    drop = queue._drop_oldest

    def ends_another(reason: str) -> None:
        if not inside:
            inside.append(reason)
            sending.call("from a finalizer")
        drop(reason)

    monkeypatch.setattr(queue, "_drop_oldest", ends_another)
    monkeypatch.setattr(queue, "_most", 1)
    sending.processor._is_called = True  # the worker stays asleep meanwhile
    sending.call()
    sending.call()
    gc.collect()
    assert inside == ["queue_full"]
    assert adds_up(sending.processor.stats())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(("calls", "sent"), [(1, 0), (100, 99)])
def test_a_forked_child_sends_its_own_spans_and_none_of_the_parents(
    calls: int, sent: int, receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = pipe()
    for _ in range(calls):
        sending.call("of the parent")
    assert becomes_true(lambda: sending.processor.stats().accepted == sent)
    child = os.fork()
    if child == 0:
        sending.call("of the child")
        os._exit(0 if sending.processor.flush(timeout=10) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert sending.processor.flush()
    names = sorted(event["data"]["name"] for event in receiver.of_kind("llm_call"))
    assert names == ["of the child"] + ["of the parent"] * calls


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
    ended = run(PROGRAM, receiver.url)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(receiver.of_kind("llm_call")) == 250


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers of this kind")
def test_a_signal_handler_may_end_spans(receiver: Receiver, pipe: Callable[..., Pipe]) -> None:
    sending = pipe()
    ended = []

    def handle(_number: int, _frame: object) -> None:
        ended.append(1)
        sending.call("from the handler")
        # Not for ever, for on a busy machine the loop below may get nowhere between two of them.
        if len(ended) < 400:
            signal.setitimer(signal.ITIMER_REAL, 0.001)

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    try:
        for _ in range(400):
            sending.call()
    finally:
        # In this order, for ours starts the timer again, and that of before ends tests.
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert ended
    assert sending.processor.flush(timeout=10)
    assert sending.processor.stats().accepted == 400 + len(ended)


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a receiver that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def threads_of_ours() -> int:
    return sum(thread.name == "agentpulse" for thread in threading.enumerate())


def test_there_is_a_thread_from_the_first_span_to_the_stop(pipe: Callable[..., Pipe]) -> None:
    before = threads_of_ours()
    sending = pipe()
    assert threads_of_ours() == before
    sending.call()
    assert threads_of_ours() == before + 1
    assert sending.processor.stop()
    assert sending.processor.stop()
    sending.call()
    assert threads_of_ours() == before


def test_spans_are_sent_after_the_interval(receiver: Receiver, pipe: Callable[..., Pipe]) -> None:
    pipe(flush_interval=0.01).call()
    assert becomes_true(lambda: len(receiver.of_kind("llm_call")) == 1)


def test_a_full_batch_is_sent_at_once(receiver: Receiver, pipe: Callable[..., Pipe]) -> None:
    sending = pipe(max_batch_size=3)
    for _ in range(3):
        sending.call()
    assert becomes_true(lambda: len(receiver.of_kind("llm_call")) == 3)


def test_a_full_queue_goes_out_in_full_requests(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = pipe()
    sending.processor._is_called = True  # the worker stays asleep meanwhile
    for number in range(1000):
        sending.call(str(number))
    assert sending.processor.flush(timeout=20)
    sizes = [len(request["body"]["events"]) for request in receiver.requests]
    assert sizes == [100] * 10 + [11]
    names = [event["data"]["name"] for event in receiver.of_kind("llm_call")]
    assert names == [str(number) for number in range(1000)]
    assert sending.processor.stats().accepted == 1000


def test_calls_that_go_on_fill_requests_too(receiver: Receiver, pipe: Callable[..., Pipe]) -> None:
    sending = pipe()
    for full in range(1, 11):
        for _ in range(100):
            sending.call()
        assert becomes_true(lambda full=full: len(receiver.of_kind("llm_call")) == full * 99)
    assert becomes_true(lambda: sending.processor.stats().queued == 10)
    assert sending.processor.flush()
    assert len(receiver.requests) == 11
    assert len(receiver.of_kind("llm_call")) == 1000
    assert adds_up(sending.processor.stats())


@pytest.mark.parametrize("interval", [0.05, 60])
def test_what_fills_no_request_is_sent_by_the_interval_or_the_end(
    interval: float, receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = pipe(flush_interval=interval)
    for _ in range(100):
        sending.call()
    assert becomes_true(lambda: len(receiver.of_kind("llm_call")) >= 99)
    if interval == 60:
        assert sending.processor.stop()
    assert becomes_true(lambda: len(receiver.of_kind("llm_call")) == 100)


def test_what_starts_is_sent_at_once_though_it_fills_no_request(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = pipe()
    for _ in range(100):
        sending.call()
    assert becomes_true(lambda: len(receiver.of_kind("llm_call")) == 99)
    sending.tracer.start_span("run", attributes={"agentpulse.span.kind": "agent"}).end()
    assert becomes_true(lambda: len(receiver.of_kind("span_start")) == 1)
    assert len(receiver.of_kind("llm_call")) == 100


def test_a_flush_of_nothing_succeeds_and_one_without_an_answer_fails(
    receiver: Receiver, silent: str, pipe: Callable[..., Pipe]
) -> None:
    assert pipe().processor.flush()
    assert receiver.requests == []
    sending = pipe(silent)
    sending.call()
    assert not sending.processor.flush(timeout=0.1)
    assert not sending.processor.force_flush(timeout_millis=100)
    assert sending.processor.stats().queued == 1
    assert not sending.processor.stop(timeout=0.1)
    assert sum(sending.processor.stats().dropped.values()) == 1
    assert adds_up(sending.processor.stats())


def test_a_stop_ends_every_flush_that_waits(silent: str, pipe: Callable[..., Pipe]) -> None:
    sending = pipe(silent)
    sending.call()
    outcomes: list[bool] = []
    flushes = [
        threading.Thread(
            target=lambda: outcomes.append(sending.processor.flush(timeout=60)), daemon=True
        )
        for _ in range(3)
    ]
    for thread in flushes:
        thread.start()
    assert becomes_true(lambda: len(sending.processor._flushes) == 2)
    sending.processor.stop(timeout=0.1)
    for thread in flushes:
        thread.join(timeout=10)
    assert outcomes == [False, False, False]


def test_a_span_that_ends_while_others_are_taken_loses_none_of_the_count(
    receiver: Receiver, pipe: Callable[..., Pipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    sending = pipe()
    inside = []

    class Interrupted(deque[object]):
        def popleft(self) -> object:
            if not inside:
                inside.append(1)
                sending.call("from a finalizer", text="x" * 20_000)
            return super().popleft()

    monkeypatch.setattr(bounds, "MOST_TEXT", 10_000)
    monkeypatch.setattr(sending.processor._waiting, "_spans", Interrupted())
    for _ in range(3):
        sending.call()
    assert not sending.processor.flush()
    (event,) = receiver.of_kind("llm_call")
    assert event["data"]["name"] == "from a finalizer"
    stats = sending.processor.stats()
    assert (stats.ended, stats.accepted, dict(stats.dropped)) == (4, 1, {"memory_full": 3})


def run(program: str, url: str) -> subprocess.CompletedProcess[str]:
    return processes.run([sys.executable, "-W", "error", "-c", program, url])


def test_a_program_ends_though_its_receiver_does_not_answer(silent: str) -> None:
    ended = run(PROGRAM, silent)
    assert ended.returncode == 0
    assert "250 spans did not reach AgentPulse" in ended.stderr


BARE = """
import sys
from agentpulse_exporter import AgentPulseSpanExporter
from agentpulse_exporter._delivery import upload
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
upload.ATTEMPT = 600.0
provider = TracerProvider()
processor = BatchSpanProcessor(AgentPulseSpanExporter("ap_x", sys.argv[1]), max_export_batch_size=1)
provider.add_span_processor(processor)
attributes = {"gen_ai.operation.name": "chat"}
for _ in range(10):
    provider.get_tracer("x").start_span("chat", attributes=attributes).end()
"""


def test_a_program_ends_though_the_processor_of_others_waits_for_an_answer(silent: str) -> None:
    ended = run(BARE, silent)
    assert ended.returncode == 0
    assert "did not reach AgentPulse" in ended.stderr


def test_a_program_ends_though_nobody_listens(refusing: str) -> None:
    ended = run(PROGRAM, refusing)
    assert ended.returncode == 0
    assert "250 spans did not reach AgentPulse" in ended.stderr


CHILD = """
import os
if os.fork() == 0:
    provider.get_tracer("x").start_span("of the child", attributes=attributes).end()
else:
    assert os.wait()[1] == 0
"""


def test_nothing_is_imported_while_spans_are_sent(receiver: Receiver) -> None:
    # A child that is forked in the middle of an import has half a module for good.
    before = "before = set(sys.modules)\nattributes ="
    after = "assert provider.force_flush()\nprint(*set(sys.modules) - before)"
    ended = run(PROGRAM.replace("attributes =", before, 1) + after, receiver.url)
    assert (ended.returncode, ended.stdout.split(), ended.stderr) == (0, [], "")
    assert len(receiver.of_kind("llm_call")) == 250


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_forked_child_that_ends_sends_what_it_queued(receiver: Receiver) -> None:
    ended = run(f"import warnings; warnings.simplefilter('ignore'){PROGRAM}{CHILD}", receiver.url)
    assert (ended.returncode, ended.stderr) == (0, "")
    names = [event["data"]["name"] for event in receiver.of_kind("llm_call")]
    assert (len(names), names.count("of the child")) == (251, 1)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers of this kind")
@pytest.mark.unconventional("its spans are made by hand, as much of them as matters")
def test_a_signal_handler_may_start_calls_inside_others(
    receiver: Receiver, pipe: Callable[..., Pipe]
) -> None:
    sending = pipe()
    ours = sending.provider.get_tracer("agentpulse_instrumentation.openai")

    def call() -> None:
        with sending.tracer.start_as_current_span("around"):
            ours.start_span("chat", attributes=CALL).end()

    left = iter(range(300))

    def interrupt(*_: object) -> None:
        call()
        # Only now the next one, however long that took; and not for ever, for on a busy machine the
        # loop below may get nowhere between two of them.
        if next(left, None) is not None:
            signal.setitimer(signal.ITIMER_REAL, 0.001)

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    try:
        for _ in range(300):
            call()
    finally:
        # In this order, for ours starts the timer again, and that of before ends tests.
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert sending.processor.flush(timeout=10)
    assert len(receiver.of_kind("llm_call")) >= 300
