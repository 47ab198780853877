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
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import loads
import null_receiver
import openai
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
SAID = 500
"""Characters of a tool's argument, and of its result."""
PAGES = (10_000, 100_000)
"""Events that the local server has when its page is asked for."""
SENDERS = 4
SIZES = ("LLM call", "tool call", "agent run", "session")
"""What `bytes_of` measures: the last two are two and three events."""

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
                    measured(lambda: search(loads.text(SAID)), EVENTS),
                    measured(run_agent, EVENTS // 2),
                ]
            sizes.append(measured(hold_session, EVENTS // 3))
        agentpulse.shutdown()
    said = ", content" if content else ""
    plain = {f"{name}{said}": size for name, (size, _) in zip(SIZES, sizes, strict=True)}
    return plain | {f"{name}{said}, gzip": z for name, (_, z) in zip(SIZES, sizes, strict=True)}


def median(measure: Callable[[], float], runs: int) -> float:
    return statistics.median(measure() for _ in range(runs))


def spans_a_second(spans: loads.Spans, processor: Callable[[], SpanProcessor], runs: int) -> float:
    """How many spans a thread can make with a processor behind, by its own CPU time."""

    def seconds() -> float:
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(processor())
        started = time.thread_time()
        spans.make(provider, SPANS)
        return time.thread_time() - started

    return SPANS / median(seconds, runs)


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

    return SPANS / median(seconds, runs)


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
        ended = spans.ended(SPANS)
        for compression in (Compression.NoCompression, Compression.Gzip):
            to = OTLPSpanExporter(f"{url}/v1/traces", compression=compression)
            exporter = CostEnrichingExporter(to)

            def export(exporter: CostEnrichingExporter = exporter) -> float:
                started = time.process_time()
                for n in range(0, SPANS, 500):
                    exporter.export(ended[n : n + 500])
                return time.process_time() - started

            before = null_receiver.counts(url)["bytes"]
            took = median(export, runs)
            size = (null_receiver.counts(url)["bytes"] - before) / runs / SPANS
            exporter.shutdown()
            suffix = ", gzip" if compression is Compression.Gzip else ""
            found |= {f"OTLP spans sent{suffix}": SPANS / took, f"OTLP span{suffix}": size}
    return found


@contextmanager
def local_server(database: Path) -> Iterator[str]:
    """`agentpulse dev` as a process of its own."""
    command = [sys.executable, "-m", "agentpulse", "dev", "--port", "0", "--database", database]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        yield running.stdout.readline().split()[-1]
        running.terminate()


def post(url: str, bodies: list[bytes]) -> None:
    connection = HTTPConnection(url.removeprefix("http://"), timeout=60)
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    for body in bodies:
        connection.request("POST", "/v1/ingest", body, headers)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        response.read()
    connection.close()


def page(url: str) -> float:
    """Milliseconds that the page takes."""
    started = time.perf_counter()
    with urllib.request.urlopen(url, timeout=120) as answer:
        answer.read()
    return (time.perf_counter() - started) * 1000


def of_the_local_server(spans: loads.Spans, runs: int) -> Figures:
    """What it takes in a second, what it keeps of it, and how long its page takes."""
    found: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        with local_server(Path(folder, "one.sqlite3")) as url:
            uploaded = uploading(spans, url, time.perf_counter, runs)
            found["events from one program to the local server"] = uploaded
        database, there = Path(folder, "many.sqlite3"), 0
        with local_server(database) as url:
            for events in PAGES:
                bodies = list(loads.requests(range(there, events)))
                started = time.perf_counter()
                with ThreadPoolExecutor(SENDERS) as senders:
                    for n in range(SENDERS):
                        senders.submit(post, url, bodies[n::SENDERS])
                taken = (events - there) / (time.perf_counter() - started)
                found["events from many to the local server"] = taken
                found[f"ms for its page, {events:,} events"] = median(lambda: page(url), runs)
                there = events
        found["SQLite of a call"] = database.stat().st_size / there
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
    yield "| a second | |"
    yield "| --- | ---: |"
    for name, figure in figures.items():
        if name.startswith(("spans made", "events", "OTLP spans")):
            yield f"| {name} | {rounded(figure)} |"
    for name, figure in figures.items():
        if name.startswith("ms "):
            yield f"| {name.removeprefix('ms for ')} | {rounded(figure)} ms |"


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
    figures |= of_the_local_server(spans, arguments.runs)
    if arguments.json:
        print(json.dumps({name: round(figure, 1) for name, figure in figures.items()}))
    elif arguments.markdown:
        print(*markdown(figures), sep="\n")
    else:
        for name, figure in figures.items():
            print(f"{name:44} {figure:12,.1f}")


if __name__ == "__main__":
    main()
