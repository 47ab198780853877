"""Other people's OpenTelemetry: each is set up, makes a span, and returns the spans that it got.

None of them reaches the network: their exporters are in memory, or send to this machine.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from fakes.collector import Collector
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

Seen = list[dict[str, Any]]
"""Name, id and parent's id of each span that came."""


class Product(Protocol):
    """What a program does with a product."""

    def start(self) -> Any:
        """Sets it up, as its manual has it; returns its provider."""

    def span(self, name: str) -> AbstractContextManager[object]:
        """A span of its own, current."""

    def seen(self) -> Seen:
        """What it got so far."""


def finished(memory: InMemorySpanExporter) -> Seen:
    return [
        {
            "name": span.name,
            "id": f"{span.context.span_id:016x}",
            "parent": span.parent and f"{span.parent.span_id:016x}",
        }
        for span in memory.get_finished_spans()
        if span.context is not None
    ]


class Program:
    """A provider that the program itself sets."""

    def __init__(self) -> None:
        self._memory = InMemorySpanExporter()

    def start(self) -> Any:
        self._provider = TracerProvider()
        self._provider.add_span_processor(SimpleSpanProcessor(self._memory))
        trace.set_tracer_provider(self._provider)
        return self._provider

    def add(self) -> None:
        """The other way: joins the provider that is there."""
        self._provider: Any = trace.get_tracer_provider()
        self._provider.add_span_processor(SimpleSpanProcessor(self._memory))

    def span(self, name: str) -> Any:
        return self._provider.get_tracer("program").start_as_current_span(name)

    def seen(self) -> Seen:
        return finished(self._memory)


class Logfire:
    """Its provider is a proxy, which is the global one if it is the first."""

    def __init__(self) -> None:
        self.memory = InMemorySpanExporter()

    def start(self) -> Any:
        import logfire

        logfire.configure(
            send_to_logfire=False,
            console=False,
            inspect_arguments=False,
            additional_span_processors=[SimpleSpanProcessor(self.memory)],
        )
        return logfire.DEFAULT_LOGFIRE_INSTANCE.config.get_tracer_provider()

    def span(self, name: str) -> Any:
        import logfire

        return logfire.span(name)

    def seen(self) -> Seen:
        return finished(self.memory)


def sent_to(collector: Collector) -> Seen:
    return [
        {
            "name": span["name"],
            # JSON of protobuf has bytes in base 64.
            "id": b64(span["spanId"]),
            "parent": b64(span["parentSpanId"]) if "parentSpanId" in span else None,
        }
        for span in collector.spans
    ]


def b64(text: str) -> str:
    from base64 import b64decode

    return b64decode(text).hex()


class Langfuse:
    """It joins the global provider, or sets one."""

    def start(self) -> Any:
        from langfuse import Langfuse as Client

        self._collector = Collector("/api/public/otel").start()
        self._client = Client(public_key="pk", secret_key="sk", base_url=self._collector.url)
        return trace.get_tracer_provider()

    add = start

    def span(self, name: str) -> Any:
        return self._client.start_as_current_observation(name=name)

    def seen(self) -> Seen:
        self._client.flush()
        return sent_to(self._collector)


class Sentry:
    """Its OpenTelemetry mode: a processor on a provider of the program makes transactions."""

    def start(self) -> Any:
        from opentelemetry.propagate import set_global_textmap
        from sentry_sdk.integrations.opentelemetry import SentryPropagator, SentrySpanProcessor

        self._init(instrumenter="otel")
        self._provider = TracerProvider()
        self._provider.add_span_processor(SentrySpanProcessor())
        trace.set_tracer_provider(self._provider)
        set_global_textmap(SentryPropagator())
        return self._provider

    def add(self) -> None:
        """The other way: joins the provider that is there."""
        from sentry_sdk.integrations.opentelemetry import SentrySpanProcessor

        self._init(instrumenter="otel")
        self._provider: Any = trace.get_tracer_provider()
        self._provider.add_span_processor(SentrySpanProcessor())

    def span(self, name: str) -> Any:
        return self._provider.get_tracer("program").start_as_current_span(name)

    def seen(self) -> Seen:
        return [
            {"name": each["name"], "id": each["span_id"], "parent": each.get("parent_span_id")}
            for envelope in self._envelopes
            for item in envelope.items
            if item.type == "transaction"
            for each in _spans(item.payload.json)
        ]

    def _init(self, **options: Any) -> None:
        import sentry_sdk
        from sentry_sdk.transport import Transport

        envelopes = self._envelopes = []

        class Kept(Transport):
            def capture_envelope(self, envelope: Any) -> None:
                envelopes.append(envelope)

        dsn = "http://key@127.0.0.1:9/1"
        sentry_sdk.init(dsn, traces_sample_rate=1.0, transport=Kept, **options)


class SentryByOtlp(Sentry):
    """Its other way, which sends by OTLP and joins the global provider, or sets one."""

    def start(self) -> Any:
        from sentry_sdk.integrations.otlp import OTLPIntegration

        self._collector = Collector().start()
        self._init(integrations=[OTLPIntegration(collector_url=f"{self._collector.url}/v1/traces")])
        self._provider = trace.get_tracer_provider()
        return self._provider

    add = start

    def seen(self) -> Seen:
        assert self._provider.force_flush()
        return sent_to(self._collector)


def _spans(transaction: dict[str, Any]) -> Any:
    yield {**transaction["contexts"]["trace"], "name": transaction["transaction"]}
    for span in transaction["spans"]:
        yield {**span, "name": span["description"]}


PRODUCTS: dict[str, type[Any]] = {
    "the program": Program,
    "logfire": Logfire,
    "langfuse": Langfuse,
    "sentry": Sentry,
    "sentry by OTLP": SentryByOtlp,
}
