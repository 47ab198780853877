"""What a fleet is planned by: bytes of each sort of event, and how many each part takes a second.

    uv run python bench/sizing.py [--runs 5] [--markdown | --json]

Every figure is the median of several runs. Read orders of magnitude, and how the figures relate.
`--markdown` prints the tables of docs/scale.md. What a sender does is measured by its CPU time, so
that it is a figure of one core; what the local server does, by the clock.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import loads
import null_receiver
import openai
import receiving
from agentpulse_exporter import (
    AgentPulseSpanExporter,
    AgentPulseSpanProcessor,
    CostEnrichingExporter,
)
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import agentpulse
from agentpulse.demo.provider import FakeProvider

EVENTS = 90
"""In one request, so that what belongs to all of them is shared as it usually is."""
SPANS = 5_000
TEXT = 500
"""Characters of a tool's argument, and of its result."""
SIZES = ("LLM call", "tool call", "agent run", "session")
"""What `bytes_of` measures: the last two are two and three events."""
RATES = (
    "spans made, nothing behind",
    "spans made, our processor behind",
    "spans made, the SDK's processor behind",
    "events uploaded",
    "OTLP spans sent",
    "OTLP spans sent, gzip",
    "events from one program to the local server",
    "events from many to the local server",
)
"""Each of them a second."""

Figures = dict[str, float]


def bytes_of(*, content: bool) -> Figures:
    """What each sort of thing takes as JSON and compressed, roll-ups and envelopes included."""
    with null_receiver.NullReceiver(keeps=True) as receiver, FakeProvider() as provider:
        agentpulse.init(
            endpoint=receiver.url,
            tracer_provider=TracerProvider(shutdown_on_exit=False),
            capture_messages=content,
            heartbeat_interval=0,
            flush_interval=60,
        )

        @agentpulse.tool
        def search(query: str) -> str:
            return loads.text(len(query))

        def run_agent() -> None:
            with agentpulse.agent("clerk"):
                pass

        def hold_session() -> None:
            with agentpulse.session("daily-email", user="ada") as session:
                session.set_result("success")

        def measured(happens: Callable[[], object], times: int) -> tuple[float, float]:
            agentpulse.flush()
            receiver.bodies.clear()
            for _ in range(times):
                happens()
            agentpulse.flush()
            plain = sum(len(gzip.decompress(body)) for body in receiver.bodies)
            return plain / times, sum(map(len, receiver.bodies)) / times

        with openai.OpenAI(api_key="x", base_url=provider.openai_url) as client:
            with agentpulse.session("day"):
                sizes = [
                    measured(lambda: loads.call(client, provider), EVENTS),
                    measured(lambda: search(loads.text(TEXT)), EVENTS),
                    measured(run_agent, EVENTS // 2),
                ]
            sizes.append(measured(hold_session, EVENTS // 3))
        agentpulse.shutdown()
    with_content = ", content" if content else ""
    plain = {f"{name}{with_content}": size for name, (size, _) in zip(SIZES, sizes, strict=True)}
    return plain | {
        f"{name}{with_content}, gzip": z for name, (_, z) in zip(SIZES, sizes, strict=True)
    }


def spans_a_second(spans: loads.Spans, processor: Callable[[], SpanProcessor], runs: int) -> float:
    """How many spans a thread can make with a processor behind, by its own CPU time."""

    def seconds() -> float:
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(processor())
        started = time.thread_time()
        spans.make(provider, SPANS)
        return time.thread_time() - started

    return SPANS / receiving.median(seconds, runs)


def uploading(spans: loads.Spans, url: str, clock: Callable[[], float], runs: int) -> float:
    """How many events our processor and exporter get accepted in a second of the clock."""

    def seconds() -> float:
        provider, processor = TracerProvider(shutdown_on_exit=False), ours(url)
        provider.add_span_processor(processor)
        spans.make(provider, SPANS)
        started = clock()
        assert processor.flush(timeout=120), processor.stats()
        took = clock() - started
        processor.stop()
        return took

    return SPANS / receiving.median(seconds, runs)


def ours(url: str) -> AgentPulseSpanProcessor:
    """Our processor, which sends nothing before it is asked to."""
    exporter = AgentPulseSpanExporter(endpoint=url)
    return AgentPulseSpanProcessor(exporter, flush_interval=60, max_batch_size=2 * SPANS)


def stock() -> BatchSpanProcessor:
    """That of the SDK, alike."""
    options = {"max_queue_size": 2 * SPANS, "max_export_batch_size": 2 * SPANS}
    return BatchSpanProcessor(InMemorySpanExporter(), schedule_delay_millis=60_000, **options)


def of_a_sender(spans: loads.Spans, runs: int) -> Figures:
    """What one core of a program can make, upload, and send by OTLP."""
    with null_receiver.in_a_process() as url:
        found = {
            "spans made, nothing behind": spans_a_second(spans, SpanProcessor, runs),
            "spans made, our processor behind": spans_a_second(spans, lambda: ours(url), runs),
            "spans made, the SDK's processor behind": spans_a_second(spans, stock, runs),
            "events uploaded": uploading(spans, url, time.process_time, runs),
        }
        for compression in (Compression.NoCompression, Compression.Gzip):
            to = OTLPSpanExporter(f"{url}/v1/traces", compression=compression)
            exporter = CostEnrichingExporter(to)

            def export(exporter: CostEnrichingExporter = exporter) -> float:
                ended = spans.ended(SPANS)  # new ones, for a call that was sent before is cheap
                started = time.process_time()
                for n in range(0, SPANS, 500):
                    exporter.export(ended[n : n + 500])
                return time.process_time() - started

            before = null_receiver.counts(url)["bytes"]
            took = receiving.median(export, runs)
            size = (null_receiver.counts(url)["bytes"] - before) / runs / SPANS
            exporter.shutdown()
            suffix = ", gzip" if compression is Compression.Gzip else ""
            found |= {f"OTLP spans sent{suffix}": SPANS / took, f"OTLP span{suffix}": size}
    return found


def rounded(figure: float) -> str:
    """Two digits that count, for the rest is noise."""
    return f"{float(f'{figure:.2g}'):,.0f}"


def markdown(figures: Figures) -> Iterator[str]:
    """The tables of docs/scale.md."""
    yield "| bytes of | JSON | gzip | with content | gzip |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    columns = ("", ", gzip", ", content", ", content, gzip")
    for name in SIZES:
        yield f"| {name} | {' | '.join(rounded(figures[name + each]) for each in columns)} |"
    plain, zipped = rounded(figures["OTLP span"]), rounded(figures["OTLP span, gzip"])
    yield f"| OTLP span of a call | {plain} (protobuf) | {zipped} | | |"
    yield f"| SQLite of a call | {rounded(figures['SQLite of a call'])} | | | |"
    yield ""
    yield "| | a second |"
    yield "| --- | ---: |"
    for name in RATES:
        yield f"| {name} | {rounded(figures[name])} |"
    for name in map(receiving.page_at, receiving.PAGES):
        yield f"| {name} | {rounded(figures[name])} ms |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    for name in [name for name in os.environ if name.startswith(("AGENTPULSE_", "OTEL_"))]:
        del os.environ[name]
    logging.disable()  # much is made here that nobody sends, which is a loss worth a line elsewhere
    spans = loads.Spans()
    figures = bytes_of(content=False) | bytes_of(content=True)
    figures |= of_a_sender(spans, arguments.runs)
    with tempfile.TemporaryDirectory() as folder:
        with receiving.local_server(Path(folder, "one.sqlite3")) as url:
            one = uploading(spans, url, time.perf_counter, arguments.runs)
        figures["events from one program to the local server"] = one
        figures |= receiving.measured(Path(folder, "many.sqlite3"), arguments.runs)
    if arguments.json:
        print(json.dumps({name: round(figure, 1) for name, figure in figures.items()}))
    elif arguments.markdown:
        print(*markdown(figures), sep="\n")
    else:
        for name, figure in figures.items():
            print(f"{name:44} {figure:12,.1f}")


if __name__ == "__main__":
    main()
