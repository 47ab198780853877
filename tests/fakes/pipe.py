"""A tracer provider whose spans go through our processor to a receiver, and fixtures of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from agentpulse_exporter import AgentPulseSpanExporter, AgentPulseSpanProcessor, Stats
from agentpulse_exporter._delivery import upload
from fakes.receiver import Receiver
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

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
"""The attributes of a call, as our instrumentation has them."""


class Pipe:
    """Sends when it is flushed or a batch is full; by itself once a minute only."""

    def __init__(self, url: str, **options: Any) -> None:
        given = {name: options.pop(name) for name in ("capture_messages",) if name in options}
        self.exporter = AgentPulseSpanExporter(KEY, url, "tests", **given)
        self.processor = AgentPulseSpanProcessor(self.exporter, **{"flush_interval": 60, **options})
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(self.processor)
        self.tracer = self.provider.get_tracer("tests")

    def call(self, name: str = "chat gpt-4o", **more: Any) -> None:
        """A call of a model begins and ends."""
        self.tracer.start_span(name, attributes={**CALL, **more}).end()


def adds_up(stats: Stats) -> bool:
    """Whether every span that ended is accounted for, once."""
    return stats.ended == stats.accepted + sum(stats.dropped.values()) + stats.queued


def becomes_true(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Whether the condition holds, now or before the time is up, which is long: it ends a hang."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(upload, "FIRST_LOOK", 0.01)


def ended(number: int) -> list[ReadableSpan]:
    """So many calls that have ended."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    for _ in range(number):
        provider.get_tracer("tests").start_span("chat", attributes=CALL).end()
    return list(memory.get_finished_spans())


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def pipe(receiver: Receiver) -> Iterator[Callable[..., Pipe]]:
    """Makes a pipe to the receiver, or to another address."""
    made: list[Pipe] = []

    def make(url: str = "", **options: Any) -> Pipe:
        made.append(Pipe(url or receiver.url, **options))
        return made[-1]

    yield make
    for each in made:
        each.processor.stop(timeout=0)
