"""The counts of other exporters under AgentPulse, in `stats().elsewhere`."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from agentpulse_exporter import _values
from fakes import processes
from fakes.collector import Collector
from fakes.pipe import CALL
from fakes.program import Init
from fakes.receiver import Receiver
from fakes.sdk import Run
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

import agentpulse
from agentpulse._otel.exporters import BoundedBatchProcessor, lasting

CONTENT = {
    "gen_ai.input.messages": '[{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]'
}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture
def end_spans(provider: TracerProvider) -> Callable[..., None]:
    tracer = provider.get_tracer("program")

    def end_spans(*names: str, **more: str) -> None:
        for name in names:
            attributes = {} if name == "web" else {**CALL, **more}
            tracer.start_span(name, attributes=attributes).end()

    return end_spans


def test_what_concerns_agents_is_counted_beside_our_own(
    started: Init, end_spans: Callable[..., None], collector: Collector
) -> None:
    started(otlp_endpoint=collector.url)
    end_spans("one", "web", "another", "web")
    assert agentpulse.flush()
    taken = {collector.url: agentpulse.Stats(ended=2, accepted=2)}
    assert agentpulse.stats().elsewhere == taken
    client = agentpulse.get_client()
    assert client is not None
    assert client.shutdown()
    assert client.stats().elsewhere == taken
    assert [span["name"] for span in collector.spans] == ["one", "another"]


def test_every_span_is_counted_where_every_span_is_sent(
    started: Init, end_spans: Callable[..., None], collector: Collector
) -> None:
    started(otlp_endpoint=collector.url, export_all_spans=True)
    end_spans("one", "web")
    assert agentpulse.shutdown()
    assert agentpulse.stats().elsewhere == {collector.url: agentpulse.Stats(ended=2, accepted=2)}
    assert [span["name"] for span in collector.spans] == ["one", "web"]


def test_what_a_failing_redaction_drops_is_counted_as_our_own_is(
    started: Init, end_spans: Callable[..., None], collector: Collector
) -> None:
    def redact(text: str) -> str:
        raise ValueError(text)

    started(otlp_endpoint=collector.url, capture_messages=True, redact=redact)
    end_spans("captured", "captured too", **CONTENT)
    end_spans("silent")
    assert not agentpulse.flush()
    dropped = {"redaction_failed": 2}
    counts = agentpulse.Stats(ended=3, accepted=1, dropped=dropped)
    assert agentpulse.stats().elsewhere == {collector.url: counts}
    assert agentpulse.stats().dropped == dropped
    assert [span["name"] for span in collector.spans] == ["silent"]


def test_what_can_not_be_read_is_counted(
    started: Init,
    end_spans: Callable[..., None],
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(span: ReadableSpan) -> object:
        raise AttributeError(span)

    started(otlp_endpoint=collector.url)
    end_spans("odd")
    monkeypatch.setattr(_values, "strict", False)
    monkeypatch.setattr(ReadableSpan, "links", property(broken))
    assert not agentpulse.flush()
    counts = agentpulse.Stats(ended=1, dropped={"unmappable": 1})
    assert agentpulse.stats().elsewhere == {collector.url: counts}


def test_a_collector_that_is_away_is_counted_also_when_the_provider_has_ended(
    started: Init, end_spans: Callable[..., None], provider: TracerProvider, refusing: str
) -> None:
    started(otlp_endpoint=refusing)
    end_spans("one", "another")
    provider.shutdown()
    assert agentpulse.stats().dropped == {}
    lost = agentpulse.Stats(ended=2, dropped={"not_accepted": 2})
    assert agentpulse.stats().elsewhere == {refusing: lost}
    assert not agentpulse.shutdown()
    assert agentpulse.stats().elsewhere == {refusing: lost}


def test_shutdown_ends_in_its_time_with_what_a_silent_collector_holds(
    started: Init, end_spans: Callable[..., None], silent: str, caplog: pytest.LogCaptureFixture
) -> None:
    started(otlp_endpoint=silent, shutdown_timeout=60)
    end_spans("one")
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
    started: Init, end_spans: Callable[..., None], gated: Gated
) -> None:
    end_spans("before", "web")
    started()
    end_spans("after")
    before = agentpulse.stats().elsewhere
    assert before == {"the collector": agentpulse.Stats(ended=3, queued=3)}
    gated.gate.set()
    assert agentpulse.flush()
    after = agentpulse.stats().elsewhere
    assert after == {"the collector": agentpulse.Stats(ended=3, accepted=3)}


def test_shutdown_does_not_wait_for_exporters_that_go_on(
    started: Init, end_spans: Callable[..., None], gated: Gated
) -> None:
    started()
    end_spans("one")
    assert agentpulse.shutdown(timeout=30)
    assert not gated.gate.is_set()
    waits = agentpulse.Stats(ended=1, queued=1)
    assert agentpulse.stats().elsewhere == {"the collector": waits}


def run_instrumented(code: str, **variables: str) -> list[object]:
    """The lines of a program, run under an exporter beside ours that is listed twice."""
    command = str(Path(sys.executable).parent / "opentelemetry-instrument")
    done = processes.run(
        [command, sys.executable, "-W", "ignore::DeprecationWarning", "-c", PRELUDE + code],
        env={**os.environ, "OTEL_TRACES_EXPORTER": "agentpulse,otlp,otlp", **variables},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


PRELUDE = """
import json, os
import agentpulse
from opentelemetry import trace
from opentelemetry.trace import get_tracer_provider

def end_span():
    trace.get_tracer("program").start_span("web").end()
    get_tracer_provider().force_flush()

def show(client):
    counts = client.stats().elsewhere.items()
    print(json.dumps({name: [each.ended, each.accepted, each.queued] for name, each in counts}))
"""
AGAIN = """
first = agentpulse.get_client()
end_span()
show(first)
agentpulse.shutdown()
end_span()
show(first)
second = agentpulse.init()
show(second)
end_span()
end_span()
show(second)
show(first)
"""
FORKED = """
end_span()
agentpulse.shutdown()
client = agentpulse.init()
end_span()
pid = os.fork()
if pid:
    os.waitpid(pid, 0)
else:
    end_span()
show(client)
"""
NAME = "the exporter 'otlp_proto_http'"


def test_an_exporter_of_opentelemetrys_variable_is_one_and_counts_on_for_every_client(
    strict_receiver: Receiver, collector: Collector
) -> None:
    counts = run_instrumented(
        AGAIN,
        AGENTPULSE_ENDPOINT=strict_receiver.url,
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
    )
    assert counts == [{NAME: [count, count, 0]} for count in (1, 2, 2, 4, 4)]
    assert len(collector.spans) == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_counts_its_own(strict_receiver: Receiver, collector: Collector) -> None:
    counts = run_instrumented(
        FORKED,
        AGENTPULSE_ENDPOINT=strict_receiver.url,
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
    )
    assert counts == [{NAME: [1, 1, 0]}, {NAME: [2, 2, 0]}]
    assert len(collector.spans) == 3


SENT_BEFORE_THE_FORK = """
client = agentpulse.init()
end_span()
assert agentpulse.flush()
pid = os.fork()
end_span()
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
    (counts,) = agentpulse.stats().elsewhere.values()
    print(json.dumps([counts.ended, counts.accepted, counts.dropped]))

provider = TracerProvider(shutdown_on_exit=False)
agentpulse.init(otlp_endpoint=os.environ["COLLECTOR"], tracer_provider=provider, auto_patch=False)
call = {"gen_ai.operation.name": "chat"}
provider.get_tracer("program").start_span("chat", attributes=call).end()
"""


def test_the_end_of_the_program_waits_for_other_exporters_and_counts_what_is_lost(
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
