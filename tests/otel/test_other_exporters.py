"""What became of the spans that go elsewhere under AgentPulse, as `stats().elsewhere` tells it."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from agentpulse_exporter import _shield
from fakes import processes
from fakes.collector import Collector
from fakes.pipe import CALL
from fakes.program import Init
from fakes.receiver import Receiver
from fakes.sdk import Run
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

import agentpulse
from agentpulse._otel.bounded import BoundedBatchProcessor
from agentpulse._otel.otlp import lasting

SAID = {"gen_ai.input.messages": '[{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]'}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture
def tell(provider: TracerProvider) -> Callable[..., None]:
    tracer = provider.get_tracer("program")

    def tell(*names: str, **more: str) -> None:
        for name in names:
            attributes = {} if name == "web" else {**CALL, **more}
            tracer.start_span(name, attributes=attributes).end()

    return tell


def test_what_concerns_agents_is_counted_beside_our_own(
    started: Init, tell: Callable[..., None], collector: Collector
) -> None:
    started(otlp_endpoint=collector.url)
    tell("one", "web", "another", "web")
    assert agentpulse.flush()
    taken = {collector.url: agentpulse.Stats(ended=2, accepted=2)}
    assert agentpulse.stats().elsewhere == taken
    client = agentpulse.get_client()
    assert client is not None
    assert client.shutdown()
    assert client.stats().elsewhere == taken
    assert [span["name"] for span in collector.spans] == ["one", "another"]


def test_every_span_is_counted_where_every_span_is_sent(
    started: Init, tell: Callable[..., None], collector: Collector
) -> None:
    started(otlp_endpoint=collector.url, export_all_spans=True)
    tell("one", "web")
    assert agentpulse.shutdown()
    assert agentpulse.stats().elsewhere == {collector.url: agentpulse.Stats(ended=2, accepted=2)}
    assert [span["name"] for span in collector.spans] == ["one", "web"]


def test_what_a_failing_redaction_drops_is_counted_as_our_own_is(
    started: Init, tell: Callable[..., None], collector: Collector
) -> None:
    def redact(text: str) -> str:
        raise ValueError(text)

    started(otlp_endpoint=collector.url, capture_messages=True, redact=redact)
    tell("said", "said too", **SAID)
    tell("silent")
    assert not agentpulse.flush()
    dropped = {"redaction_failed": 2}
    told = agentpulse.Stats(ended=3, accepted=1, dropped=dropped)
    assert agentpulse.stats().elsewhere == {collector.url: told}
    assert agentpulse.stats().dropped == dropped
    assert [span["name"] for span in collector.spans] == ["silent"]


def test_what_can_not_be_read_is_counted(
    started: Init, tell: Callable[..., None], collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(span: ReadableSpan) -> object:
        raise AttributeError(span)

    started(otlp_endpoint=collector.url)
    tell("odd")
    monkeypatch.setattr(_shield, "strict", False)
    monkeypatch.setattr(ReadableSpan, "links", property(broken))
    assert not agentpulse.flush()
    told = agentpulse.Stats(ended=1, dropped={"unmappable": 1})
    assert agentpulse.stats().elsewhere == {collector.url: told}


def test_a_collector_that_is_away_is_counted_also_when_the_provider_has_ended(
    started: Init, tell: Callable[..., None], provider: TracerProvider, refusing: str
) -> None:
    started(otlp_endpoint=refusing)
    tell("one", "another")
    provider.shutdown()
    assert agentpulse.stats().dropped == {}
    lost = agentpulse.Stats(ended=2, dropped={"not_accepted": 2})
    assert agentpulse.stats().elsewhere == {refusing: lost}
    assert not agentpulse.shutdown()
    assert agentpulse.stats().elsewhere == {refusing: lost}


def test_shutdown_ends_in_its_time_with_what_a_silent_collector_holds(
    started: Init, tell: Callable[..., None], silent: str, caplog: pytest.LogCaptureFixture
) -> None:
    started(otlp_endpoint=silent, shutdown_timeout=60)
    tell("one")
    assert not agentpulse.shutdown(timeout=1)
    lost = agentpulse.Stats(ended=1, dropped={"shutdown": 1})
    assert agentpulse.stats().elsewhere == {silent: lost}
    assert f"1 span did not reach {silent} (in all shutdown: 1)" in caplog.messages


class Gated(SpanExporter):
    def __init__(self) -> None:
        self.gate = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        assert spans
        assert self.gate.wait(20)
        return SpanExportResult.SUCCESS


@pytest.fixture
def gated(provider: TracerProvider) -> Iterator[Gated]:
    """An exporter as OTEL_TRACES_EXPORTER brings them, before AgentPulse starts."""
    exporter = Gated()
    processor = BoundedBatchProcessor(lambda: exporter, "the collector")
    lasting.add(processor)
    provider.add_span_processor(processor)
    yield exporter
    exporter.gate.set()
    processor.shutdown()


def test_what_waits_when_agentpulse_starts_counts_with_it(
    started: Init, tell: Callable[..., None], gated: Gated
) -> None:
    tell("before", "web")
    started()
    tell("after")
    before = agentpulse.stats().elsewhere
    assert before == {"the collector": agentpulse.Stats(ended=3, queued=3)}
    gated.gate.set()
    assert agentpulse.flush()
    after = agentpulse.stats().elsewhere
    assert after == {"the collector": agentpulse.Stats(ended=3, accepted=3)}


def test_shutdown_does_not_wait_for_exporters_that_go_on(
    started: Init, tell: Callable[..., None], gated: Gated
) -> None:
    started()
    tell("one")
    assert agentpulse.shutdown(timeout=30)
    assert not gated.gate.is_set()
    waits = agentpulse.Stats(ended=1, queued=1)
    assert agentpulse.stats().elsewhere == {"the collector": waits}


def run_instrumented(code: str, **variables: str) -> list[object]:
    """What a program told of itself, run under two exporters of the same kind beside ours."""
    command = str(Path(sys.executable).parent / "opentelemetry-instrument")
    done = processes.run(
        [command, sys.executable, "-W", "ignore::DeprecationWarning", "-c", TELLS + code],
        env={**os.environ, "OTEL_TRACES_EXPORTER": "agentpulse,otlp,otlp", **variables},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


TELLS = """
import json, os
import agentpulse
from opentelemetry import trace
from opentelemetry.trace import get_tracer_provider

def tell():
    trace.get_tracer("program").start_span("web").end()
    get_tracer_provider().force_flush()

def show(client):
    told = client.stats().elsewhere.items()
    print(json.dumps({name: [each.ended, each.accepted, each.queued] for name, each in told}))
"""
AGAIN = """
first = agentpulse.get_client()
tell()
show(first)
agentpulse.shutdown()
tell()
show(first)
second = agentpulse.init()
show(second)
tell()
tell()
show(second)
show(first)
"""
FORKED = """
tell()
agentpulse.shutdown()
client = agentpulse.init()
tell()
pid = os.fork()
if pid:
    os.waitpid(pid, 0)
else:
    tell()
show(client)
"""
NAME = "the exporter 'otlp_proto_http'"


def test_each_client_counts_from_its_start_to_its_end_and_sums_what_has_one_name(
    strict_receiver: Receiver, collector: Collector
) -> None:
    told = run_instrumented(
        AGAIN,
        AGENTPULSE_ENDPOINT=strict_receiver.url,
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
    )
    first = {NAME: [2, 2, 0]}
    assert told == [first, first, {NAME: [0, 0, 0]}, {NAME: [4, 4, 0]}, first]
    assert len(collector.spans) == 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_counts_its_own(strict_receiver: Receiver, collector: Collector) -> None:
    told = run_instrumented(
        FORKED,
        AGENTPULSE_ENDPOINT=strict_receiver.url,
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
    )
    assert told == [{NAME: [2, 2, 0]}, {NAME: [2, 2, 0]}]
    assert len(collector.spans) == 6


SENT_BEFORE_THE_FORK = """
client = agentpulse.init()
tell()
assert agentpulse.flush()
pid = os.fork()
tell()
assert agentpulse.flush()
if pid:
    os.waitpid(pid, 0)
    show(client)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("exporters", ["agentpulse,otlp", "agentpulse"])
def test_a_forked_child_has_connections_of_its_own(
    exporters: str, strict_receiver: Receiver, collector: Collector
) -> None:
    own = {"AGENTPULSE_OTLP_ENDPOINT": collector.url} if exporters == "agentpulse" else {}
    run_instrumented(
        SENT_BEFORE_THE_FORK,
        AGENTPULSE_ENDPOINT=strict_receiver.url,
        AGENTPULSE_EXPORT_ALL_SPANS="true",
        OTEL_TRACES_EXPORTER=exporters,
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        **own,
    )
    assert len(collector.spans) == 3
    assert len(collector.connections) == 2


ENDS = """
import atexit, json, os
import agentpulse
from opentelemetry.sdk.trace import TracerProvider

@atexit.register
def at_the_end():
    (told,) = agentpulse.stats().elsewhere.values()
    print(json.dumps([told.ended, told.accepted, told.dropped]))

provider = TracerProvider(shutdown_on_exit=False)
agentpulse.init(otlp_endpoint=os.environ["COLLECTOR"], tracer_provider=provider, auto_patch=False)
call = {"gen_ai.operation.name": "chat"}
provider.get_tracer("program").start_span("chat", attributes=call).end()
"""


def test_the_end_of_the_program_waits_for_what_goes_elsewhere_and_counts_what_is_lost(
    run_program: Run, strict_receiver: Receiver, silent: str
) -> None:
    done = run_program(
        ENDS,
        AGENTPULSE_ENDPOINT=strict_receiver.url,
        AGENTPULSE_SHUTDOWN_TIMEOUT="0.5",
        COLLECTOR=silent,
    )
    assert done.stderr == f"1 span did not reach {silent} (in all shutdown: 1)\n"
    assert json.loads(done.stdout) == [1, 0, {"shutdown": 1}]
